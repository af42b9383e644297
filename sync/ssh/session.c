/* Why the buffers: see session.h. What to know about libssh2 1.10 besides:
 *
 * - Its receive side, asked for anything, first takes in every packet that RECV
 *   can deliver and queues it in memory; an error there loses what is queued. So
 *   RECV never reports the end of the connection: it says EAGAIN, and end of file
 *   is concluded here, when everything received has been handed on.
 * - The queue is bounded by the channel's window, which is widened only by reading
 *   the channel, so not reading is what slows the peer down.
 * - A call that gave EAGAIN keeps a state inside; freeing the session in that
 *   state leaks. Before the freeing, RECV is switched to "connection closed" and
 *   the interrupted call is repeated: it fails and cleans up.
 * - Its known-host check falls back from [host]:port to the bare host name, as
 *   ssh(1) does not; identity_write_known_hosts writes no bare names. */
#include "sync/ssh/session.h"

#include <errno.h>
#include <libssh2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sync/base/log.h"
#include "sync/ssh/fifo.h"
#include "sync/ssh/identity.h"

#define RECEIVE_MAX ((size_t)256 * 1024)
/* sshd leaves Nagle's algorithm (RFC 896) on: its second small packet waits for
 * the acknowledgement of its first, and the kernel delays that by 40 ms. So small
 * receptions are acknowledged at once; the option lasts for one time only. */
#define QUICK_ACK_BELOW ((ssize_t)16 * 1024)
#define CHANNEL_WINDOW (2u * 1024 * 1024)
#define CHANNEL_PACKET 32768u /* RFC 4253 §6.1 */

enum stage { STAGE_KEX, STAGE_LOGIN, STAGE_OPEN, STAGE_EXEC, STAGE_UP, STAGE_FAILED };

struct ssh_session {
    const struct ssh_session_config config;
    int fd;                   /* borrowed */
    LIBSSH2_SESSION *ssh;     /* owned */
    LIBSSH2_CHANNEL *channel; /* owned by ssh */
    struct fifo in, out;
    enum stage stage;
    bool in_ended; /* the socket gave end of file or an error */
    int in_error;  /* errno of that error, or 0 */
    bool out_of_memory;
    bool closing; /* RECV reports the end, SEND drops */
    bool eof_sent, ended;
    char remote_line[256]; /* first line of the command's standard error */
    size_t remote_line_len;
    char disconnect[160]; /* SSH_MSG_DISCONNECT's description (RFC 4253 §11.1) */
    enum ssh_failure failure;
    char message[640];
};

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static int global_result;

static void global_init(void)
{
    global_result = libssh2_init(0) == 0 ? 0 : -ENOMEM;
}

int ssh_session_global_init(void)
{
    pthread_once(&global_once, global_init);
    return global_result;
}

static LIBSSH2_SEND_FUNC(on_send)
{
    struct ssh_session *s = *abstract;
    uint8_t *space;

    (void)socket;
    (void)flags;
    if (s->closing)
        return (ssize_t)length;
    space = fifo_reserve(&s->out, length);
    if (space == NULL) {
        s->out_of_memory = true;
        return -ENOMEM;
    }
    memcpy(space, buffer, length);
    fifo_added(&s->out, length);
    return (ssize_t)length;
}

static LIBSSH2_RECV_FUNC(on_recv)
{
    struct ssh_session *s = *abstract;
    size_t n = fifo_used(&s->in);

    (void)socket;
    (void)flags;
    if (s->closing)
        return 0;
    if (n == 0)
        return -EAGAIN;
    if (n > length)
        n = length;
    memcpy(buffer, fifo_head(&s->in), n);
    fifo_consume(&s->in, n);
    return (ssize_t)n;
}

/* Text of the peer, for people: printable ASCII only. */
static void copy_printable(char *out, size_t size, const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len && n + 1 < size; i++)
        out[n++] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
    out[n] = '\0';
}

static LIBSSH2_DISCONNECT_FUNC(on_disconnect)
{
    struct ssh_session *s = *abstract;

    (void)session;
    (void)reason;
    (void)language;
    (void)language_len;
    copy_printable(s->disconnect, sizeof s->disconnect, message, message_len > 0 ? (size_t)message_len : 0);
}

struct ssh_session *ssh_session_new(const struct ssh_session_config *config, int fd)
{
    static const struct {
        int method;
        const char *names;
    } prefs[] = {
        {LIBSSH2_METHOD_KEX, SSH_KEX_ALGORITHMS}, {LIBSSH2_METHOD_HOSTKEY, SSH_HOST_KEY_ALGORITHMS},
        {LIBSSH2_METHOD_CRYPT_CS, SSH_CIPHERS},   {LIBSSH2_METHOD_CRYPT_SC, SSH_CIPHERS},
        {LIBSSH2_METHOD_MAC_CS, SSH_MACS},        {LIBSSH2_METHOD_MAC_SC, SSH_MACS},
    };
    struct ssh_session init = {.config = *config, .fd = fd, .failure = SSH_FAILED_LOCAL};
    struct ssh_session *s = malloc(sizeof *s);
    int on = 1;

    if (s == NULL)
        return NULL;
    memcpy(s, &init, sizeof *s);
    s->ssh = libssh2_session_init_ex(NULL, NULL, NULL, s);
    if (s->ssh == NULL) {
        free(s);
        return NULL;
    }
    libssh2_session_set_blocking(s->ssh, 0);
    /* The library's generic pointers to functions: it is told the kind. */
    libssh2_session_callback_set(s->ssh, LIBSSH2_CALLBACK_SEND, (void *)(uintptr_t)on_send);
    libssh2_session_callback_set(s->ssh, LIBSSH2_CALLBACK_RECV, (void *)(uintptr_t)on_recv);
    libssh2_session_callback_set(s->ssh, LIBSSH2_CALLBACK_DISCONNECT, (void *)(uintptr_t)on_disconnect);
    for (size_t i = 0; i < sizeof prefs / sizeof prefs[0]; i++) {
        if (libssh2_session_method_pref(s->ssh, prefs[i].method, prefs[i].names) != 0) {
            log_error("libssh2 does not offer %s", prefs[i].names);
            ssh_session_free(s);
            return NULL;
        }
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return s;
}

__attribute__((format(printf, 3, 4))) static enum ssh_step
fail(struct ssh_session *s, enum ssh_failure failure, const char *fmt, ...)
{
    va_list args;

    if (s->stage != STAGE_FAILED) {
        va_start(args, fmt);
        vsnprintf(s->message, sizeof s->message, fmt, args);
        va_end(args);
        s->failure = failure;
        s->stage = STAGE_FAILED;
    }
    return SSH_STEP_FAILED;
}

static const char *library_text(struct ssh_session *s)
{
    char *text = NULL;

    if (s->disconnect[0] != '\0')
        return s->disconnect;
    libssh2_session_last_error(s->ssh, &text, NULL, 0);
    return text != NULL && text[0] != '\0' ? text : "no reason given";
}

const char *ssh_session_stage(const struct ssh_session *s)
{
    switch (s->stage) {
    case STAGE_KEX:
        return "exchanging keys";
    case STAGE_LOGIN:
        return "logging in";
    case STAGE_OPEN:
        return "opening a channel";
    case STAGE_EXEC:
        return "starting the peer's command";
    case STAGE_UP:
        return "connected";
    case STAGE_FAILED:
        break;
    }
    return "failed";
}

/* A library call said EAGAIN: wait, unless no more bytes will ever come. */
static enum ssh_step wait_or_lost(struct ssh_session *s)
{
    if (s->out_of_memory)
        return fail(s, SSH_FAILED_LOCAL, "out of memory");
    if (!s->in_ended || fifo_used(&s->in) > 0)
        return SSH_STEP_WAIT;
    if (s->stage == STAGE_UP)
        return fail(s, SSH_FAILED_LOST, "the connection broke: %s",
                    s->in_error != 0 ? strerror(s->in_error) : "closed by the peer's sshd");
    return fail(s, SSH_FAILED_NETWORK, "the peer closed the connection while %s%s%s", ssh_session_stage(s),
                s->in_error != 0 ? ": " : "", s->in_error != 0 ? strerror(s->in_error) : "");
}

static enum ssh_step check_host_key(struct ssh_session *s)
{
    const struct ssh_session_config *c = &s->config;
    char seen[IDENTITY_FINGERPRINT_MAX] = "?", pinned[IDENTITY_FINGERPRINT_MAX] = "?", line[256];
    LIBSSH2_KNOWNHOSTS *hosts;
    struct libssh2_knownhost *found = NULL;
    const char *key;
    size_t len;
    int type, result;

    key = libssh2_session_hostkey(s->ssh, &len, &type);
    if (key == NULL || type != LIBSSH2_HOSTKEY_TYPE_ED25519)
        return fail(s, SSH_FAILED_PROTOCOL, "the peer's host key is not ed25519");
    identity_fingerprint_blob(key, len, seen);
    hosts = libssh2_knownhost_init(s->ssh);
    if (hosts == NULL)
        return fail(s, SSH_FAILED_LOCAL, "out of memory");
    if (libssh2_knownhost_readfile(hosts, c->known_hosts_path, LIBSSH2_KNOWNHOST_FILE_OPENSSH) < 0) {
        libssh2_knownhost_free(hosts);
        return fail(s, SSH_FAILED_OWN_KEY, "cannot read the pinned host keys in %s", c->known_hosts_path);
    }
    result = libssh2_knownhost_checkp(
        hosts, c->host, c->port, key, len,
        LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | LIBSSH2_KNOWNHOST_KEY_ED25519, &found);
    if (result == LIBSSH2_KNOWNHOST_CHECK_MISMATCH && found != NULL && found->key != NULL) {
        snprintf(line, sizeof line, "ssh-ed25519 %s", found->key);
        identity_fingerprint(line, pinned);
    }
    libssh2_knownhost_free(hosts);
    switch (result) {
    case LIBSSH2_KNOWNHOST_CHECK_MATCH:
        return SSH_STEP_WAIT;
    case LIBSSH2_KNOWNHOST_CHECK_MISMATCH:
        return fail(s, SSH_FAILED_HOST_KEY_CHANGED,
                    "host key mismatch: it shows %s, but %s pins %s for [%s]:%u; another machine answers "
                    "there, or its key was replaced",
                    seen, c->known_hosts_path, pinned, c->host, c->port);
    case LIBSSH2_KNOWNHOST_CHECK_NOTFOUND:
        return fail(s, SSH_FAILED_HOST_KEY_UNKNOWN,
                    "host key unknown: it shows %s, and %s has no key for [%s]:%u", seen, c->known_hosts_path,
                    c->host, c->port);
    default:
        return fail(s, SSH_FAILED_LOCAL, "checking the host key failed: %s", library_text(s));
    }
}

/* The key's file is looked at first, for messages that libssh2 does not give. */
static enum ssh_step check_own_key(struct ssh_session *s)
{
    char public_key[IDENTITY_PUBLIC_MAX];
    int error = identity_read_public(s->config.private_key_path, public_key);

    if (error == 0)
        return SSH_STEP_WAIT;
    return fail(s, SSH_FAILED_OWN_KEY, "cannot use our key %s: %s", s->config.private_key_path,
                error == -EINVAL ? "not an ed25519 key in OpenSSH form without a passphrase"
                                 : strerror(-error));
}

static enum ssh_step step_kex(struct ssh_session *s)
{
    int rc = libssh2_session_handshake(s->ssh, s->fd);

    if (rc == LIBSSH2_ERROR_EAGAIN)
        return wait_or_lost(s);
    if (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT)
        return fail(s, SSH_FAILED_NETWORK, "the peer refused the handshake: %s", library_text(s));
    if (rc != 0)
        return fail(s, SSH_FAILED_PROTOCOL, "the SSH handshake failed: %s", library_text(s));
    if (check_host_key(s) == SSH_STEP_FAILED || check_own_key(s) == SSH_STEP_FAILED)
        return SSH_STEP_FAILED;
    s->stage = STAGE_LOGIN;
    return SSH_STEP_UP;
}

static enum ssh_step step_login(struct ssh_session *s)
{
    const struct ssh_session_config *c = &s->config;
    char public_key[IDENTITY_PUBLIC_MAX], print[IDENTITY_FINGERPRINT_MAX] = "?";
    int rc = libssh2_userauth_publickey_fromfile_ex(s->ssh, c->user, (unsigned)strlen(c->user), NULL,
                                                    c->private_key_path, NULL);

    switch (rc) {
    case 0:
        s->stage = STAGE_OPEN;
        return SSH_STEP_UP;
    case LIBSSH2_ERROR_EAGAIN:
        return wait_or_lost(s);
    case LIBSSH2_ERROR_AUTHENTICATION_FAILED:
    case LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED:
        if (identity_read_public(c->private_key_path, public_key) == 0)
            identity_fingerprint(public_key, print);
        return fail(s, SSH_FAILED_KEY_REFUSED, "our key was refused: user %s there does not accept %s (%s)",
                    c->user, print, c->private_key_path);
    case LIBSSH2_ERROR_FILE:
        return fail(s, SSH_FAILED_OWN_KEY, "cannot use our key %s: %s", c->private_key_path, library_text(s));
    default:
        return fail(s, SSH_FAILED_NETWORK, "the login broke off: %s", library_text(s));
    }
}

static enum ssh_step step_open(struct ssh_session *s)
{
    static const char type[] = "session";

    s->channel =
        libssh2_channel_open_ex(s->ssh, type, sizeof type - 1, CHANNEL_WINDOW, CHANNEL_PACKET, NULL, 0);
    if (s->channel == NULL) {
        if (libssh2_session_last_errno(s->ssh) == LIBSSH2_ERROR_EAGAIN)
            return wait_or_lost(s);
        return fail(s, SSH_FAILED_EXEC, "no channel: %s", library_text(s));
    }
    s->stage = STAGE_EXEC;
    return SSH_STEP_UP;
}

static enum ssh_step step_exec(struct ssh_session *s)
{
    int rc = libssh2_channel_process_startup(s->channel, "exec", 4, s->config.command,
                                             (unsigned)strlen(s->config.command));

    if (rc == LIBSSH2_ERROR_EAGAIN)
        return wait_or_lost(s);
    if (rc != 0)
        return fail(s, SSH_FAILED_EXEC, "the peer does not start the command: %s", library_text(s));
    s->stage = STAGE_UP;
    return SSH_STEP_UP;
}

enum ssh_step ssh_session_step(struct ssh_session *s)
{
    static enum ssh_step (*const steps[])(struct ssh_session *) = {
        [STAGE_KEX] = step_kex,
        [STAGE_LOGIN] = step_login,
        [STAGE_OPEN] = step_open,
        [STAGE_EXEC] = step_exec,
    };

    while (s->stage < STAGE_UP) {
        enum ssh_step step = steps[s->stage](s);

        if (step != SSH_STEP_UP)
            return step;
    }
    return s->stage == STAGE_UP ? SSH_STEP_UP : SSH_STEP_FAILED;
}

void ssh_session_free(struct ssh_session *s)
{
    int rc = LIBSSH2_ERROR_EAGAIN;

    if (s == NULL)
        return;
    s->closing = true;
    if (s->stage < STAGE_UP)
        ssh_session_step(s);
    for (int i = 0; i < 8 && rc == LIBSSH2_ERROR_EAGAIN; i++)
        rc = libssh2_session_free(s->ssh);
    if (rc != 0)
        log_warn("an SSH session could not be freed (%d): some memory is lost", rc);
    fifo_deinit(&s->in);
    fifo_deinit(&s->out);
    free(s);
}

ssize_t ssh_session_receive(struct ssh_session *s)
{
    uint8_t *space;
    ssize_t n;
    int on = 1;

    if (s->in_ended)
        return s->in_error != 0 ? -s->in_error : 0;
    if (fifo_used(&s->in) >= RECEIVE_MAX)
        return -EAGAIN;
    space = fifo_reserve(&s->in, RECEIVE_MAX);
    if (space == NULL) {
        s->out_of_memory = true;
        return -ENOMEM;
    }
    do
        n = recv(s->fd, space, RECEIVE_MAX, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        fifo_added(&s->in, (size_t)n);
        if (n < QUICK_ACK_BELOW)
            setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        return n;
    }
    if (n < 0 && errno == EAGAIN)
        return -EAGAIN;
    s->in_ended = true;
    s->in_error = n < 0 ? errno : 0;
    return n < 0 ? -s->in_error : 0;
}

bool ssh_session_receives(const struct ssh_session *s)
{
    return !s->in_ended && fifo_used(&s->in) < RECEIVE_MAX;
}

ssize_t ssh_session_send(struct ssh_session *s)
{
    while (fifo_used(&s->out) > 0) {
        ssize_t n = send(s->fd, fifo_head(&s->out), fifo_used(&s->out), MSG_NOSIGNAL);

        if (n > 0)
            fifo_consume(&s->out, (size_t)n);
        else if (n < 0 && errno == EAGAIN)
            break;
        else if (n < 0 && errno != EINTR)
            return -errno;
    }
    return (ssize_t)fifo_used(&s->out);
}

size_t ssh_session_unsent(const struct ssh_session *s)
{
    return fifo_used(&s->out);
}

static int broken(struct ssh_session *s, const char *what)
{
    if (s->out_of_memory)
        fail(s, SSH_FAILED_LOCAL, "out of memory");
    else if (s->in_error != 0)
        fail(s, SSH_FAILED_LOST, "the connection broke: %s", strerror(s->in_error));
    else
        fail(s, SSH_FAILED_LOST, "the connection broke while %s: %s", what, library_text(s));
    return -EPIPE;
}

/* Keeps the first line, drops the rest. */
static void drain_stderr(struct ssh_session *s)
{
    char text[1024];
    ssize_t n;

    while ((n = libssh2_channel_read_ex(s->channel, SSH_EXTENDED_DATA_STDERR, text, sizeof text)) > 0) {
        for (ssize_t i = 0; i < n && s->remote_line_len + 1 < sizeof s->remote_line; i++) {
            if (text[i] == '\n' && s->remote_line_len > 0) {
                s->remote_line_len = sizeof s->remote_line; /* complete */
                break;
            }
            if (text[i] >= ' ' && text[i] < 0x7f)
                s->remote_line[s->remote_line_len++] = text[i];
        }
    }
}

ssize_t ssh_session_read(struct ssh_session *s, void *data, size_t len)
{
    ssize_t n;

    if (s->stage != STAGE_UP)
        return -EPIPE;
    n = libssh2_channel_read_ex(s->channel, 0, data, len);
    if (n > 0)
        return n;
    if (n == 0) {
        /* End of file, but not reported as such while stderr waits in the queue. */
        drain_stderr(s);
        if (libssh2_channel_eof(s->channel) != 0)
            return 0;
    }
    if (n == 0 || n == LIBSSH2_ERROR_EAGAIN)
        return wait_or_lost(s) == SSH_STEP_WAIT ? -EAGAIN : -EPIPE;
    return broken(s, "receiving");
}

ssize_t ssh_session_write(struct ssh_session *s, const void *data, size_t len)
{
    ssize_t n;

    if (s->stage != STAGE_UP)
        return -EPIPE;
    if (len == 0) /* libssh2 would send an empty packet */
        return -EAGAIN;
    n = libssh2_channel_write_ex(s->channel, 0, data, len);
    if (n > 0)
        return n;
    if (n == 0 || n == LIBSSH2_ERROR_EAGAIN)
        return s->out_of_memory ? broken(s, "sending") : -EAGAIN;
    if (n == LIBSSH2_ERROR_CHANNEL_CLOSED)
        return -EPIPE;
    return broken(s, "sending");
}

int ssh_session_process(struct ssh_session *s)
{
    int rc;

    if (s->stage != STAGE_UP)
        return -EPIPE;
    rc = libssh2_channel_wait_eof(s->channel);
    return rc == 0 || rc == LIBSSH2_ERROR_EAGAIN ? 0 : broken(s, "receiving");
}

int ssh_session_write_eof(struct ssh_session *s)
{
    int rc;

    if (s->stage != STAGE_UP)
        return -EPIPE;
    if (s->eof_sent)
        return 0;
    rc = libssh2_channel_send_eof(s->channel);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return -EAGAIN;
    if (rc != 0)
        return broken(s, "sending");
    s->eof_sent = true;
    return 0;
}

bool ssh_session_ended(struct ssh_session *s)
{
    char *signal_name = NULL;
    int rc;

    if (s->ended)
        return true;
    if (s->stage != STAGE_UP)
        return false;
    drain_stderr(s);
    if (libssh2_channel_eof(s->channel) != 1)
        return false;
    rc = libssh2_channel_wait_closed(s->channel);
    if (rc == LIBSSH2_ERROR_EAGAIN && !(s->in_ended && fifo_used(&s->in) == 0))
        return false;
    s->ended = true;
    libssh2_channel_get_exit_signal(s->channel, &signal_name, NULL, NULL, NULL, NULL, NULL);
    if (signal_name != NULL)
        fail(s, SSH_FAILED_REMOTE_ENDED, "the peer's command was killed by SIG%s%s%s", signal_name,
             s->remote_line[0] != '\0' ? ": " : "", s->remote_line);
    else if (rc == 0)
        fail(s, SSH_FAILED_REMOTE_ENDED, "the peer's command ended with status %d%s%s",
             libssh2_channel_get_exit_status(s->channel), s->remote_line[0] != '\0' ? ": " : "",
             s->remote_line);
    else
        fail(s, SSH_FAILED_LOST, "the connection broke: %s",
             s->in_error != 0 ? strerror(s->in_error) : "closed by the peer's sshd");
    if (signal_name != NULL)
        libssh2_free(s->ssh, signal_name);
    return true;
}

enum ssh_failure ssh_session_failure(const struct ssh_session *s)
{
    return s->failure;
}

const char *ssh_session_message(const struct ssh_session *s)
{
    return s->message[0] != '\0' ? s->message : ssh_session_stage(s);
}
