"""What the conformance suite asks of a server by name, registered on ours by tests only: so our builder is what is tested.

The names, words and shapes are the suite's. Nothing here is shipped, and nothing of it knows Kubernetes.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingCapability,
    SamplingMessage,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
Reply = CallToolResult | InputRequiredResult
ABOUT = "a fixture of the conformance suite"
NAME = "What is your name?"


def add_fixtures(server: MCPServer) -> None:
    """Everything of the suite's that both revisions score."""
    _add_contents(server)
    _add_conversations(server)
    _add_rounds(server)
    _add_resources_and_prompts(server)


def _text(words: str, uri: str = "", mime_type: str = "text/plain") -> Any:
    if uri:
        return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=words))
    return TextContent(type="text", text=words)


def _said(words: str) -> CallToolResult:
    return CallToolResult(content=[_text(words)])


def _add_contents(server: MCPServer) -> None:
    image, audio = ImageContent(type="image", data=PNG, mime_type="image/png"), AudioContent(type="audio", data=WAV, mime_type="audio/wav")
    embedded = _text("This is an embedded resource content.", "test://embedded-resource")
    mixed = _text('{"test":"data","value":123}', "test://mixed-content-resource", "application/json")

    def answering(name: str, *content: Any) -> None:
        async def answer() -> CallToolResult:
            return CallToolResult(content=list(content))

        server.add_tool(answer, name=name, description=ABOUT)

    answering("test_simple_text", _text("This is a simple text response for testing."))
    answering("test_image_content", image)
    answering("test_audio_content", audio)
    answering("test_embedded_resource", embedded)
    answering("test_multiple_content_types", _text("Multiple content types test:"), image, mixed)

    @server.tool(name="test_error_handling", description=ABOUT)
    async def fail() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(name="test_trigger_tool_change", description=ABOUT)
    async def change_tools(context: Context[Any, Any]) -> str:
        await context.notify_tools_changed()
        return "changed"

    @server.tool(name="test_trigger_prompt_change", description=ABOUT)
    async def change_prompts(context: Context[Any, Any]) -> str:
        await context.notify_prompts_changed()
        return "changed"


def _add_conversations(server: MCPServer) -> None:
    @server.tool(name="test_tool_with_progress", description=ABOUT)
    async def progress(context: Context[Any, Any]) -> str:
        for step in (0, 50, 100):
            await context.report_progress(step, 100, f"step {step}")
        return "done"

    @server.tool(name="test_tool_with_logging", description=ABOUT)
    async def log(context: Context[Any, Any]) -> str:
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await context.info(words)
        return "logged"

    @server.tool(name="test_sampling", description=ABOUT)
    async def sample(prompt: str, context: Context[Any, Any]) -> str:
        said = await context.session.create_message([SamplingMessage(role="user", content=_text(prompt))], max_tokens=100)
        return f"LLM response: {getattr(said.content, 'text', '')}"

    @server.tool(name="test_elicitation", description=ABOUT)
    async def elicit(message: str, context: Context[Any, Any]) -> str:
        fields = {"username": {"type": "string"}, "email": {"type": "string"}}
        return f"User response: {await _asked(context, message, fields, list(fields))}"

    @server.tool(name="test_elicitation_sep1034_defaults", description=ABOUT)
    async def defaults(context: Context[Any, Any]) -> str:
        fields: dict[str, Any] = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return f"Elicitation completed: {await _asked(context, 'Who are you?', fields)}"

    @server.tool(name="test_elicitation_sep1330_enums", description=ABOUT)
    async def enums(context: Context[Any, Any]) -> str:
        plain = ["option1", "option2", "option3"]
        titled = [{"const": f"value{number}", "title": f"{word} Option"} for number, word in enumerate(("First", "Second", "Third"), 1)]
        fields: dict[str, Any] = {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled}},
        }
        return f"Elicitation completed: {await _asked(context, 'Choose.', fields)}"

    async def set_level(_context: ServerRequestContext[Any, Any], _params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


async def _asked(context: Context[Any, Any], message: str, fields: dict[str, Any], required: list[str] | None = None) -> str:
    schema = {"type": "object", "properties": fields, "required": required or []}
    answer: ElicitResult = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content or {})}"


def _form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sampling(question: str, tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=_text(question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def _answer(context: Context[Any, Any], key: str, field: str = "") -> Any:
    """What the client answered under a key, None where it did not, or not with that field."""
    given = (context.input_responses or {}).get(key)
    if not field:
        return given
    return (given.content or {}).get(field) if isinstance(given, ElicitResult) and given.action == "accept" else None


def _add_rounds(server: MCPServer) -> None:
    @server.tool(name="test_missing_capability", description=ABOUT)
    async def needs_sampling(context: Context[Any, Any]) -> str:
        if not context.session.check_client_capability(ClientCapabilities(sampling=SamplingCapability())):
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "needs sampling", {"requiredCapabilities": {"sampling": {}}})
        return "supported"

    @server.tool(name="test_input_required_result_elicitation", description=ABOUT)
    async def elicitation(context: Context[Any, Any]) -> Reply:
        name = _answer(context, "user_name", "name")
        return _said(f"Hello, {name}!") if name else InputRequiredResult(input_requests={"user_name": _form(NAME, "name")})

    @server.tool(name="test_input_required_result_sampling", description=ABOUT)
    async def sampling(context: Context[Any, Any]) -> Reply:
        said = _answer(context, "capital_question")
        question = {"capital_question": _sampling("What is the capital of France?", 100)}
        return _said(said.content.text) if said else InputRequiredResult(input_requests=dict(question))

    @server.tool(name="test_input_required_result_list_roots", description=ABOUT)
    async def roots(context: Context[Any, Any]) -> Reply:
        found = _answer(context, "client_roots")
        if not found:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return _said(", ".join(f"{root.name} {root.uri}" for root in found.roots))

    def confirming(name: str) -> None:
        async def confirm(context: Context[Any, Any]) -> Reply:
            if context.request_state == "confirm" and _answer(context, "confirm", "ok") is not None:
                return _said("state-ok")
            asked = {"confirm": _form("Please confirm", "ok", "boolean")}
            return InputRequiredResult(input_requests=dict(asked), request_state="confirm")

        server.add_tool(confirm, name=name, description=ABOUT)

    confirming("test_input_required_result_request_state")
    confirming("test_input_required_result_tampered_state")

    @server.tool(name="test_input_required_result_multiple_inputs", description=ABOUT)
    async def several(context: Context[Any, Any]) -> Reply:
        asked: dict[str, Any] = {
            "user_name": _form(NAME, "name"),
            "greeting": _sampling("Generate a greeting", 50),
            "client_roots": ListRootsRequest(),
        }
        if context.request_state == "several" and all(_answer(context, key) for key in asked):
            return _said("all answered")
        return InputRequiredResult(input_requests=dict(asked), request_state="several")

    @server.tool(name="test_input_required_result_multi_round", description=ABOUT)
    async def rounds(context: Context[Any, Any]) -> Reply:
        state = json.loads(context.request_state or "{}")
        color = _answer(context, "step2", "color")
        if "name" in state and color:
            return _said(f"{state['name']} likes {color}")
        name = state.get("name") or _answer(context, "step1", "name")
        if name:
            asked = {"step2": _form("Step 2: What is your favorite color?", "color")}
            return InputRequiredResult(input_requests=dict(asked), request_state=json.dumps({"name": name}))
        first = {"step1": _form("Step 1: What is your name?", "name")}
        return InputRequiredResult(input_requests=dict(first), request_state=json.dumps({"step": 1}))

    @server.tool(name="test_input_required_result_capabilities", description=ABOUT)
    async def capabilities(context: Context[Any, Any]) -> Reply:
        session = context.session
        asked: dict[str, Any] = {}
        if session.check_client_capability(ClientCapabilities(elicitation=ElicitationCapability())):
            asked["user_name"] = _form(NAME, "name")
        if session.check_client_capability(ClientCapabilities(sampling=SamplingCapability())):
            asked["greeting"] = _sampling("Generate a greeting", 50)
        return InputRequiredResult(input_requests=asked) if asked and not context.input_responses else _said("done")


def _add_resources_and_prompts(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 (the suite's name)
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "watched"

    @server.prompt(name="test_simple_prompt", description=ABOUT)
    def simple() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(name="test_prompt_with_arguments", description=ABOUT)
    def with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(name="test_prompt_with_embedded_resource", description=ABOUT)
    def with_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 (the suite's name)
        embedded = _text("Embedded resource content for testing.", resourceUri)
        return [UserMessage(embedded), UserMessage("Please process the embedded resource above.")]

    @server.prompt(name="test_prompt_with_image", description=ABOUT)
    def with_image() -> list[UserMessage]:
        return [UserMessage(ImageContent(type="image", data=PNG, mime_type="image/png")), UserMessage("Please analyze the image above.")]

    @server.prompt(name="test_input_required_result_prompt", description=ABOUT)
    async def with_rounds(context: Context[Any, Any]) -> list[UserMessage] | InputRequiredResult:
        given = _answer(context, "user_context", "context")
        if not given:
            return InputRequiredResult(input_requests={"user_context": _form("What context should the prompt use?", "context")})
        return [UserMessage(f"Please answer with this context: {given}")]
