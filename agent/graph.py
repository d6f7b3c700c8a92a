"""The picture of an investigation: plan, probe in parallel, judge, and around again; then propose, wait, execute, verify, report.

    plan -> probe (many) -> judge -> plan -> ... -> propose -> await_decision -> execute -> verify -> report

It is the only loop there is. Importing this module imports LangGraph, which takes seconds: import it where an investigation starts.
"""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agent import nodes
from agent.nodes import Dependencies
from agent.state import Investigation, ProbeTask

Graph = CompiledStateGraph[Investigation, Dependencies, Investigation, Investigation]


def build(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """The compiled graph. Without a checkpointer it runs through at once and cannot wait for a decision."""
    graph = StateGraph(Investigation, context_schema=Dependencies)
    graph.add_node("plan", nodes.plan)
    graph.add_node("probe", nodes.probe, input_schema=ProbeTask)
    graph.add_node("judge", nodes.judge, defer=True)
    graph.add_node("propose", nodes.propose)
    graph.add_node("await_decision", nodes.await_decision)
    graph.add_node("execute", nodes.execute)
    graph.add_node("verify", nodes.verify)
    graph.add_node("report", nodes.report)
    graph.add_edge(START, "plan")
    graph.add_edge("probe", "judge")
    graph.add_edge("judge", "plan")
    graph.add_edge("execute", "verify")
    graph.add_edge("verify", "report")
    graph.add_edge("report", END)
    return graph.compile(checkpointer=checkpointer, name="investigation")
