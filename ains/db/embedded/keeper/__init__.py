"""The keeper: a small process that runs the server for as long as somebody owns it.

It is the parent of PostgreSQL's main process ("postmaster"), so that

- the server stops when its last owner has left or died, `kill -9` included: owners are processes
  with a locked file (:class:`ains.db.embedded.layout.Owner`), and the kernel drops their locks;
- a server that dies is started again at once, on the same port;
- the server stops when the keeper itself is killed (on Linux, by PR_SET_PDEATHSIG), or is adopted
  by the keeper that an owner starts next.

It runs without site-packages and without the rest of AINS: it starts in some 20 ms, takes 10 MB,
and lives in a session of its own, where the Ctrl-C for its owner doesn't reach it. What it is to
run comes as JSON, see :class:`~ains.db.embedded.keeper.process.Spec`. When the server is ready, or
has failed to start, it says so in one word on its standard output. Afterwards it speaks to nobody;
SIGUSR1 makes it look at once whether an owner is left.
"""
