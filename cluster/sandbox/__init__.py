"""Where programs that a model wrote are run: bubblewrap outside, a namespace of its own for each program inside."""

UNSAFE = (
    "UNSAFE: stage {stages} runs programs that a model wrote WITHOUT A SANDBOX (--allow-unsafe-execution). They can "
    "read and delete your files, use your keys and your network"
)
