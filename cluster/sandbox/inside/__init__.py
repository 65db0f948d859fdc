"""What runs inside the sandbox: standard library only, mounted read-only, none of it trusted with what must stay out.

bubblewrap          no network, read-only system, its own processes, hostname, ...; one for each cell of the pool
  zygote            a warm interpreter: reads a job, forks a launcher, passes the outcome on
    launcher        enters new user, process, mount and IPC namespaces
      tester        process 1 there: its end is everybody's end; holds the tests, says what came of them
        program     what the model wrote; forked before the tests were read, so they are nowhere in its memory
"""
