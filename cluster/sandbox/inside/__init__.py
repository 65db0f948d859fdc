"""What runs inside the sandbox: standard library only, mounted read-only, none of it trusted with what must stay out.

bubblewrap          no network, read-only system, its own processes, hostname, ...; one for each cell of the pool
  zygote            a warm interpreter: reads a job, forks a tester, passes the outcome on
    tester          holds the tests; enters new user, mount and IPC namespaces, and says what came of the program
      program       process 1 of a namespace of its own; forked before the tests were read: they are nowhere in its
                    memory, and it can't see anybody of the above
"""
