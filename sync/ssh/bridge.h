/* The accepting end of a peer link: what sshd runs for a peer's key.
 *
 * `kvnode bridge --peer n2 --socket /path/peer.sock` is the forced command of
 * peer n2's line in authorized_keys. It connects to this machine's node, gives it
 * the two streams that it got from sshd, under the name of the peer to whom the
 * key belongs (handover.h), and stays until the node is done with them: sshd ends
 * the session when its command ends. */
#ifndef KVFS_SYNC_SSH_BRIDGE_H
#define KVFS_SYNC_SSH_BRIDGE_H

enum bridge_exit {
    BRIDGE_EXIT_OK = 0,      /* the node closed the stream, or did not want it */
    BRIDGE_EXIT_NO_NODE = 1, /* the node's socket does not answer, or is not ours */
    BRIDGE_EXIT_USAGE = 2,   /* bad name or path; standard input or output is not sshd's */
    BRIDGE_EXIT_IO = 3,      /* an unexpected error */
};

/* Returns when the node has closed the connection; the value is the process's exit
 * status (enum bridge_exit). A failure is told in one line on standard error,
 * which sshd carries to the dialling node.
 *
 * Standard input and output must each be a socket or a pipe (sshd's), never a
 * terminal or a file; both are closed after they were handed over. Ignores SIGPIPE
 * in the whole process. Single-threaded. */
int bridge_run(const char *peer_name, const char *socket_path);

#endif
