"""The tasks extension (`io.modelcontextprotocol/tasks`, SEP-2663): a client that says it knows tasks gets long work as one.

The call returns at once with an id; the work goes on and is asked about, and cancelling it stops its requests to the cluster. A task is
seen by whoever began it only, lives in this process, and can do nothing that the same call could not. Nothing that may change a cluster
runs as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.request_state import authenticated_principal
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolRequestParams, ClientCapabilities, RequestParams
from mcp_types.jsonrpc import HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, Field

from guardrails.clock import Clock, SystemClock, random_id

IDENTIFIER = "io.modelcontextprotocol/tasks"
KEPT_FOR = timedelta(hours=1)
POLL_MS = 2_000
RUNNING_LIMIT = 64
KEPT_LIMIT = 500
log = logging.getLogger("smokejumper")


class TaskParams(RequestParams):
    """Which task."""

    task_id: str = Field(alias="taskId", max_length=100)


@dataclass
class _Task:
    """One piece of work. It is the one thing here that changes: `status` moves once, from `working`."""

    id: str
    owner: str | None
    begun: datetime
    changed: datetime
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    status: str = "working"
    outcome: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.begun.isoformat(),
            "lastUpdatedAt": self.changed.isoformat(),
            "ttlMs": int(KEPT_FOR.total_seconds() * 1000),
            "pollIntervalMs": POLL_MS,
            **self.outcome,
        }


class Tasks(Extension):
    """Runs these tools as tasks for clients that know them, while `running` is open."""

    identifier = IDENTIFIER

    def __init__(self, tools: frozenset[str], clock: Clock | None = None, ids: Callable[[str], str] = random_id) -> None:
        self._tools = tools
        self._clock = clock or SystemClock()
        self._ids = ids
        self._tasks: dict[str, _Task] = {}
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> Any:
        """Tasks run in here; leaving cancels them."""
        async with anyio.create_task_group() as self._group:
            yield
            self._group.cancel_scope.cancel()

    def methods(self) -> Sequence[MethodBinding]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        handlers = {"tasks/get": self._get, "tasks/update": self._update, "tasks/cancel": self._cancel}
        return [MethodBinding(method, TaskParams, handler, versions) for method, handler in handlers.items()]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        wanted = params.name in self._tools and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and _knows_tasks(ctx)
        if not wanted or self._group is None or not self._room():
            return await call_next(ctx)
        now = self._clock.now()
        task = _Task(self._ids("task"), authenticated_principal(ctx), now, now)
        self._tasks[task.id] = task
        # The new task keeps this call's context, and with it who is calling.
        self._group.start_soon(self._work, task, ctx, call_next)
        return {"resultType": "task", **task.document()}

    async def _work(self, task: _Task, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> None:
        with task.scope:
            try:
                result = await call_next(ctx)
                shown = result.model_dump(by_alias=True, mode="json", exclude_none=True) if isinstance(result, BaseModel) else result
                self._settle(task, "completed", {"result": shown})
            except MCPError as error:
                self._settle(task, "failed", {"error": {"code": error.error.code, "message": error.error.message}})
            except Exception:
                log.exception("task %s failed", task.id)
                message = "the task failed inside Smokejumper; its log on stderr has the details"
                self._settle(task, "failed", {"error": {"code": INTERNAL_ERROR, "message": message}})
        if task.scope.cancelled_caught:
            self._settle(task, "cancelled", {})

    def _settle(self, task: _Task, status: str, outcome: dict[str, Any]) -> None:
        task.status, task.outcome, task.changed = status, outcome, self._clock.now()

    def _room(self) -> bool:
        """Whether another task may begin, once those are gone whose time is over. None goes earlier than clients were told."""
        now = self._clock.now()
        for task in [task for task in self._tasks.values() if task.status != "working" and now - task.begun > KEPT_FOR]:
            del self._tasks[task.id]
        working = sum(task.status == "working" for task in self._tasks.values())
        return working < RUNNING_LIMIT and len(self._tasks) < KEPT_LIMIT

    def _find(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> _Task:
        if not _knows_tasks(ctx):
            needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, f"this needs a client that declares {IDENTIFIER}", needed)
        # Over HTTP a header mirrors the name, for whoever routes by it; the SDK holds it against the body for its own methods only.
        mirrored = (getattr(ctx.request, "headers", None) or {}).get("mcp-name", params.task_id)
        if mirrored != params.task_id:
            raise MCPError(HEADER_MISMATCH, "Mcp-Name names another task than the body does")
        task = self._tasks.get(params.task_id)
        if task is None or task.owner != authenticated_principal(ctx):
            kept = f"for {KEPT_FOR.total_seconds() / 3600:g} h by the process that runs them"
            raise MCPError(INVALID_PARAMS, f"there is no task of yours with this id; tasks are kept {kept}")
        return task

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        return {"resultType": "complete", **self._find(ctx, params).document()}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        """No task here asks its client for anything, so whatever is answered is acknowledged and has no effect."""
        self._find(ctx, params)
        return {"resultType": "complete"}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        self._find(ctx, params).scope.cancel()
        return {"resultType": "complete"}


def _knows_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    return ctx.session.check_client_capability(ClientCapabilities(extensions={IDENTIFIER: {}}))
