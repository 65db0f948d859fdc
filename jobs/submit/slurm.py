"""Submitting to Slurm: one batch script that starts Ray across the allocation, runs, and queues itself again."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from cluster.storage.root import Root
from jobs.submit.backend import Backend, ClusterRefused, State, call
from jobs.submit.submission import FOLDER, Submission
from schemas.errors import BadInput

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED"}

LONGEST_SCRATCH = 16
"""Characters that the folder of Ray's temporary files may have: a socket's path has 107, we put some 24 behind it, and
Ray some 65."""

SCRIPT = """\
#!/usr/bin/env bash
{directives}
set -uo pipefail

export PATH={environment}/bin:$PATH
export PYTHONPATH={home}${{PYTHONPATH:+:$PYTHONPATH}}
{exports}
# Each job has a Ray of its own, and nobody else knows its token.
port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
scratch=${{TMPDIR:-/tmp}}
if [[ ! -w $scratch ]] || ((${{#scratch}} > {longest})); then scratch=/tmp; fi # Ray's sockets need short paths
scratch=$(mktemp -d "$scratch/gristmill-ray-$SLURM_JOB_ID-XXXX") || exit 1 # numbers are one Slurm's, not a machine's
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
address=$(hostname -I | awk '{{print $1}}') # this script runs on the first node
address=${{address:-127.0.0.1}}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 RAY_worker_niceness=0

start_ray() {{ # HOST ARGUMENTS...: Ray on one node, in the background, for as long as this script
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" --cpus-per-task={cpus} {step_gpus}\\
    ray start --block --disable-usage-stats --num-cpus={cpus} --num-gpus={gpus} \
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "${{@:2}}" & # ports that nobody else has
}}
stop_ray() {{
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
  rm -rf "$scratch"
}}
trap stop_ray EXIT

start_ray "${{nodes[0]}}" --head --node-ip-address="$address" --port="$port" \\
  --temp-dir="$scratch" --include-dashboard=false
for node in "${{nodes[@]:1}}"; do start_ray "$node" --address="$address:$port"; done
python -m jobs.submit.ray "$address:$port" "${{#nodes[@]}}" & joined=$!
wait -n -p first # until all nodes are there, or one's Ray ends
code=$?
if [[ $first != "$joined" || $code != 0 ]]; then
  echo "Ray could not be started on all nodes; its own words are above" >&2
  exit 1
fi

# Slurm says {notice} s ahead that time is up, or that others need the nodes: the run writes down what it has.
stopped=
python -m jobs.cli {command} --address "$address:$port" &
run=$!
trap 'stopped=1; kill -TERM $run 2>/dev/null' TERM
while :; do
  wait $run
  code=$?
  kill -0 $run 2>/dev/null || break
done
[[ $code == 4 ]] && code=0 # the budget's end is no failure
if [[ -n $stopped && $code == 3 && ${{SLURM_RESTART_COUNT:-0}} -lt {requeues} ]]; then
  echo "stopped before it was done; it queues itself again and goes on from there"
  scontrol requeue "$SLURM_JOB_ID" || true
fi
exit $code
"""

GATHER = """\
#!/usr/bin/env bash
{directives}
set -euo pipefail

export PATH={environment}/bin:$PATH
export PYTHONPATH={home}${{PYTHONPATH:+:$PYTHONPATH}}
{exports}
# No shard is at work any more: what they made is put together, and what needs all problems is computed. Where a shard
# didn't end well this says which and stops; resuming the submission runs what is missing.
python -m jobs.cli gather {shards} --root {root} --complete
python -m jobs.cli {command} --runner local
"""


class Slurm(Backend):
    """sbatch, squeue, sacct (where there is accounting), scontrol, scancel."""

    def preview(self, submission: Submission) -> str:
        scripts = [script(submission)]
        if submission.job.resources.shards > 1:
            scripts.append(
                "# and when no shard is at work any more (--dependency=afterany):\n" + gather_script(submission)
            )
        return "\n".join(scripts)

    def start(self, submission: Submission, attempt: int) -> dict[str, Any]:
        if Root.at(submission.root).is_local:
            Path(submission.root, FOLDER, submission.id).mkdir(parents=True, exist_ok=True)
        number = _sbatch(script(submission))
        if submission.job.resources.shards == 1:
            return {"jobs": [number]}
        return {"jobs": [number, _sbatch(gather_script(submission), f"--dependency=afterany:{number}")]}

    def state(self, submission: Submission, handle: dict[str, Any]) -> tuple[State, str]:
        numbers = ",".join(handle["jobs"])
        try:
            said = call(["squeue", "--noheader", "--array", "--format=%i %T %r", "--states=all", "--jobs", numbers])
        except ClusterRefused as error:
            if "Invalid job id" in str(error):  # over for some minutes, and forgotten
                return "ended", "not in the queue any more"
            raise
        rows = [line.split(maxsplit=2) for line in said.splitlines() if line.strip()]
        words = ", ".join(f"{row[0]} {row[1].lower()}{_why(row)}" for row in rows)
        found = {row[1] for row in rows}
        if found & RUNNING:
            return "running", words
        return ("waiting" if found & WAITING else "ended"), words or "not in the queue any more"

    def logs(self, submission: Submission, handle: dict[str, Any]) -> str:
        folder, name = _log_folder(submission)
        stems = [re.sub(r"%[A-Za-z]", "*", name)]
        found = sorted({path for stem in stems for path in folder.glob(stem)}, key=lambda path: path.stat().st_mtime)
        wanted = [path for path in found if any(number in path.name for number in handle["jobs"])]
        many = len(wanted) > 1
        return "".join((f"==> {path.name} <==\n" if many else "") + path.read_text(errors="replace") for path in wanted)

    def stop(self, submission: Submission, handle: dict[str, Any]) -> None:
        for number in reversed(handle["jobs"]):
            state, _ = self.state(submission, {"jobs": [number]})
            if state == "ended":
                continue
            if state == "waiting":
                call(["scancel", number])
            else:  # the script's own trap lets the run end in good order; it must not queue itself again
                call(["scontrol", "update", f"JobId={number}", "Requeue=0"])
                call(["scancel", "--batch", "--signal=TERM", number])


def script(submission: Submission) -> str:
    """Return the batch script of a job (of each of its shards).

    Raises:
        BadInput: it asks for more than one group of nodes.
    """
    resources, options = submission.job.resources, submission.job.resources.slurm
    if resources.groups[1:]:
        raise BadInput("resources.groups: a Slurm job has one group of equal nodes; submit a job for each, or use Ray")
    group = resources.groups[0]
    lines = [
        *_common(submission, "" if resources.shards == 1 else "-shard"),
        f"--nodes={group.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={group.cpus}",
        f"--mem={group.memory_gb}G",
        f"--time={_clock(resources.hours)}",
        f"--signal=B:TERM@{options.notice_seconds}",
        "--requeue",
        *([f"--gpus-per-node={f'{group.gpu}:' if group.gpu else ''}{group.gpus}"] if group.gpus else []),
        *([f"--array=0-{resources.shards - 1}"] if resources.shards > 1 else []),
        *(_option(option) for option in options.options),
    ]
    grace = min(30, max(1, options.notice_seconds // 3))
    more = ["--runner", "ray", "--set", f"run.grace_seconds={grace}", "--set", "run.if_busy=wait"]
    command = shlex.join(submission.command(*more))
    if resources.shards > 1:
        command = _of_shard(submission, more)
    return SCRIPT.format(
        directives=_directives(lines),
        cpus=group.cpus,
        gpus=group.gpus,
        step_gpus=f"--gpus={group.gpus} " if group.gpus else "",
        longest=LONGEST_SCRATCH,
        notice=options.notice_seconds,
        requeues=options.requeues,
        command=command,
        **_surroundings(submission),
    )


def gather_script(submission: Submission) -> str:
    """Return the script that puts the work of shards together."""
    of = submission.job.resources.shards
    return GATHER.format(
        directives=_directives([*_common(submission, "-gather"), "--nodes=1", "--ntasks=1", "--requeue"]),
        shards=" ".join(shlex.quote(_shard_root(submission, str(number))) for number in range(of)),
        root=shlex.quote(submission.root),
        command=shlex.join(submission.command()),
        **_surroundings(submission),
    )


def _of_shard(submission: Submission, more: list[str]) -> str:
    """Return the command of one shard: under a root of its own, since a store has one writer."""
    of = submission.job.resources.shards
    for name, value in (submission.job.run.get("budget") or {}).items():
        if name in ("samples", "tokens", "dollars", "gpu_hours") and value:
            share = value // of if isinstance(value, int) else value / of
            if not share:
                raise BadInput(f"run.budget.{name} = {value} can't be shared by {of} shards")
            more = [*more, "--set", f"run.budget.{name}={share}"]
    fixed = shlex.join(["run", submission.job_file, "--set", f"run.job={submission.id}", *more])
    root = shlex.quote(_shard_root(submission, "")) + '"$SLURM_ARRAY_TASK_ID"'
    return f'{fixed} --root {root} --set run.shard="$SLURM_ARRAY_TASK_ID"/{of}'


def _shard_root(submission: Submission, number: str) -> str:
    return f"{Root.at(submission.root).uri(FOLDER, submission.id, 'shards')}/{number}"


def _common(submission: Submission, suffix: str) -> list[str]:
    options = submission.job.resources.slurm
    named = {"partition": options.partition, "account": options.account, "qos": options.qos}
    return [
        f"--job-name={submission.job.title}{suffix}",
        f"--comment={submission.id}",
        f"--chdir={_quoted(submission.folder)}",
        f"--output={_quoted(_logs(submission))}",
        "--open-mode=append",
        *(f"--{name}={_quoted(value)}" for name, value in named.items() if value),
    ]


def _log_folder(submission: Submission) -> tuple[Path, str]:
    """Return where output goes, beside the submission where that is a folder, and the name, as a pattern of sbatch."""
    root = Root.at(submission.root)
    name = "slurm-%A-%a.log" if submission.job.resources.shards > 1 else "slurm-%j.log"
    if root.is_local:
        return Path(root.url) / FOLDER / submission.id, name
    return Path(submission.folder), f"{submission.id}-{name}"


def _logs(submission: Submission) -> str:
    """Return where output goes, as a pattern of sbatch, to which a folder's own per cent signs mean nothing."""
    folder, name = _log_folder(submission)
    return f"{str(folder).replace('%', '%%')}/{name}"


def _surroundings(submission: Submission) -> dict[str, str]:
    variables = {**submission.job.environment, **({"GRISTMILL_ROOT": submission.root})}
    return {
        "environment": shlex.quote(submission.job.resources.slurm.environment or sys.prefix),
        "home": shlex.quote(str(Path(__file__).resolve().parents[2])),
        "exports": "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()),
    }


def _directives(lines: list[str]) -> str:
    for line in lines:
        if not line.isprintable():
            raise BadInput(f"this would become several lines of the batch script: {line!r}")
    return "\n".join(f"#SBATCH {line}" for line in lines)


def _quoted(value: str) -> str:
    """Return a value of a directive as one word: sbatch reads quotes and backslashes as a shell does."""
    if re.fullmatch(r"[\w./:@%+,=-]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _option(option: str) -> str:
    """Return one option of sbatch with its value as one word."""
    name, between, value = re.match(r"(--?[A-Za-z][A-Za-z0-9-]*)([= ]?)(.*)", option, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]: the schema's pattern
    return f"{name}{between}{_quoted(value)}" if value else name


def _clock(hours: float) -> str:
    minutes = max(1, round(hours * 60))
    return f"{minutes // 60}:{minutes % 60:02}:00"


def _why(row: list[str]) -> str:
    return f" ({row[2]})" if len(row) > 2 and row[2] not in ("None", "") else ""


def _sbatch(text: str, *options: str) -> str:
    """Submit a script; the submitter's environment goes along, secrets in it, and isn't written anywhere."""
    said = call(["sbatch", "--parsable", "--export=ALL", *options], text)
    return said.strip().splitlines()[-1].split(";")[0]
