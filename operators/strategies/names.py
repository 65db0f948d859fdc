"""The table of public names: what ``sample.strategy`` calls a strategy, and where its class is."""

from __future__ import annotations

STRATEGIES: dict[str, str] = {
    "best_of": "operators.strategies.best_of:BestOf",
    "joint": "operators.strategies.joint:Joint",
    "beam": "operators.strategies.beam:Beam",
    "dvts": "operators.strategies.dvts:Dvts",
    "particles": "operators.strategies.particles:Particles",
    "entropic": "operators.strategies.entropic:Entropic",
    "gibbs": "operators.strategies.gibbs:Gibbs",
    "rebase": "operators.strategies.rebase:Rebase",
    "astar": "operators.strategies.astar:AStar",
    "mcts": "operators.strategies.mcts:Mcts",
    "tot_bfs": "operators.strategies.tot_bfs:TotBfs",
    "tot_dfs": "operators.strategies.tot_dfs:TotDfs",
    "tools": "operators.strategies.tools:Tools",
}
