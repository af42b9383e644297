/* Starts the mount, waits, and takes it down.
 *
 *   options ─► mountpoint ─► fork ─► node, session ─► mount ─► threads ─► ready
 *                             │                                             │
 *                      the parent waits and exits with what it is told ◄────┘
 *
 * All signals are blocked and read here; the other threads never see one. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvfs/file/publish.h"
#include "kvfs/link/session_io.h"
#include "kvfs/link/statx.h"
#include "kvfs/mount/mountpoint.h"
#include "kvfs/ops/fs.h"
#include "kvfs/ops/operations.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"
#include "sync/base/log.h"

#define WORKERS 2
#define READY_SECONDS 10
#define DETACHED_MS 3000
#define RETRY_MS 200
#define REASON_MAX 512

enum { EXIT_USAGE = 2 };

struct program {
    struct options options;
    struct fs fs;
    struct fuse_session *session;
    pthread_t workers[WORKERS];
    unsigned n_workers;
    int signals;    /* signalfd */
    int ended;      /* eventfd: a worker has seen the end of the session */
    int ready_pipe; /* to the waiting parent; -1 in the foreground */
};

static struct program program;

/* Workers: read requests, start them. */
static void *work(void *arg)
{
    struct program *p = arg;
    struct fuse_buf buf = {0};
    uint64_t one = 1;

    while (!fuse_session_exited(p->session)) {
        int n = fuse_session_receive_buf(p->session, &buf);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        if (!statx_take(&p->fs.hub, buf.mem, (size_t)n, attr_start))
            fuse_session_process_buf(p->session, &buf);
    }
    free(buf.mem);
    fuse_session_exit(p->session);
    if (write(p->ended, &one, sizeof one) < 0)
        return NULL;
    return NULL;
}

/* Starting */

/* In the background messages go to a file, or as datagrams to the system's log. */
static void redirect_output(const struct options *o)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int to = -1;

    if (o->log_path != NULL) {
        to = open(o->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (to < 0)
            log_warn("%s: %s", o->log_path, strerror(errno));
    } else if (!o->foreground) {
        to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (to >= 0 && connect(to, (struct sockaddr *)&addr, sizeof addr) != 0) {
            close(to);
            to = -1;
        }
    }
    if (!o->foreground && null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(to >= 0 ? to : null, STDERR_FILENO);
    } else if (to >= 0) {
        dup2(to, STDERR_FILENO);
    }
    if (to > STDERR_FILENO)
        close(to);
    if (null > STDERR_FILENO)
        close(null);
}

/* Forks; the parent waits for the child's word and exits with it. Returns in
 * the child. */
static void go_to_background(struct program *p)
{
    int fds[2];
    char code = 1;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
        perror("kvfs");
        exit(EXIT_FAILURE);
    }
    if (pid > 0) {
        close(fds[1]);
        if (read(fds[0], &code, 1) != 1)
            code = EXIT_FAILURE;
        _exit(code);
    }
    close(fds[0]);
    p->ready_pipe = fds[1];
    setsid();
}

static void tell_parent(struct program *p, int code)
{
    char byte = (char)code;

    if (p->ready_pipe < 0)
        return;
    if (write(p->ready_pipe, &byte, 1) < 0)
        log_warn("nobody waited for the mount");
    close(p->ready_pipe);
    p->ready_pipe = -1;
}

static void block_signals(struct program *p)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    p->signals = signalfd(-1, &set, SFD_CLOEXEC);
    p->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
}

/* Waits that long, or until somebody wants it to stop: false. */
static bool wait_to_retry(struct program *p, int ms)
{
    struct pollfd fds[2] = {{.fd = p->signals, .events = POLLIN}, {.fd = p->ready_pipe}};

    /* Who waits for the mount has gone, by ^C say: he does not want it any more. */
    return poll(fds, 2, ms) <= 0;
}

/* What is wanted is not there yet. The first time, and when it is something else. */
static void say_waiting(struct program *p, const char *reason, char last[static REASON_MAX])
{
    const struct options *o = &p->options;

    if (strcmp(reason, last) == 0)
        return;
    snprintf(last, REASON_MAX, "%s", reason);
    if (o->retry_ms == OPTIONS_FOREVER)
        fprintf(stderr, "kvfs: waiting for %s\n", reason);
    else
        fprintf(stderr, "kvfs: waiting up to %u s for %s\n", (unsigned)(o->retry_ms / 1000), reason);
}

/* A node that answers, and with a majority behind it, is there at some time after a
 * boot; who mounts cannot know when. */
static int connect_cluster(struct program *p)
{
    struct options *o = &p->options;
    uint64_t begun = clock_boot_ms();
    char reason[REASON_MAX] = "", last[REASON_MAX] = "";

    for (;;) {
        int rc = uplink_open(&p->fs.hub, o->prefix, reason, sizeof reason);

        if (rc == 0)
            /* The kernel never looks it up, and never forgets it. */
            return kernel_inode_get(&p->fs.cache, p->fs.hub.root_ino) != NULL ? 0 : -1;
        if (rc < 0) {
            fprintf(stderr, "kvfs: %s\n", reason);
            return -1;
        }
        if (o->retry_ms != OPTIONS_FOREVER && clock_boot_ms() - begun >= o->retry_ms) {
            fprintf(stderr, "kvfs: not mounted: waited in vain for %s. Try: kvnode status\n", reason);
            return -1;
        }
        say_waiting(p, reason, last);
        if (o->background && p->ready_pipe >= 0) {
            fprintf(stderr, "kvfs: going on in the background\n");
            tell_parent(p, EXIT_SUCCESS);
            redirect_output(o);
        }
        if (!wait_to_retry(p, RETRY_MS)) {
            fprintf(stderr, "kvfs: not mounted: stopped while waiting for %s\n", reason);
            return -1;
        }
    }
}

/* Somebody else may have mounted there while this one was waiting. */
static int mount_here(struct program *p)
{
    int lock = mountpoint_lock(p->options.mountpoint), rc = -1;

    if (mountpoint_state(p->options.mountpoint) == MOUNTPOINT_FREE)
        rc = fuse_session_mount(p->session, p->options.mountpoint);
    else
        fprintf(stderr, "kvfs: %s: mounted already\n", p->options.mountpoint);
    if (lock >= 0)
        close(lock);
    return rc;
}

/* ro, noatime and the like are the kernel's; nothing of kvfs changes. */
static int remount(const struct options *o)
{
    unsigned long flags = o->mount_flags;
    struct statvfs st;

    /* What is not said stays. */
    if (statvfs(o->mountpoint, &st) == 0) {
        static const unsigned long same[][2] = {{ST_RDONLY, MS_RDONLY},
                                                {ST_NOSUID, MS_NOSUID},
                                                {ST_NODEV, MS_NODEV},
                                                {ST_NOEXEC, MS_NOEXEC},
                                                {ST_NOATIME, MS_NOATIME}};
        size_t i;

        for (i = 0; i < sizeof same / sizeof same[0]; i++)
            flags |= (st.f_flag & same[i][0]) != 0 ? same[i][1] & ~o->mount_flags_off : 0;
    }
    if (mount("kvfs", o->mountpoint, NULL, MS_REMOUNT | flags, NULL) == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "kvfs: %s: remount: %s\n", o->mountpoint, strerror(errno));
    return EXIT_FAILURE;
}

static bool wait_until_ready(struct fs *fs)
{
    struct timespec until;
    bool ready;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += READY_SECONDS;
    pthread_mutex_lock(&fs->hub.lock);
    while (!fs->ready && pthread_cond_timedwait(&fs->ready_cond, &fs->hub.lock, &until) == 0)
        ;
    ready = fs->ready;
    pthread_mutex_unlock(&fs->hub.lock);
    return ready;
}

static int start_threads(struct program *p)
{
    unsigned n = p->options.single ? 1 : WORKERS;

    if (uplink_start(&p->fs.hub) != 0)
        return -1;
    while (p->n_workers < n) {
        if (pthread_create(&p->workers[p->n_workers], NULL, work, p) != 0)
            return -1;
        p->n_workers++;
    }
    if (!wait_until_ready(&p->fs)) {
        fprintf(stderr, "kvfs: the kernel does not talk to this mount\n");
        return -1;
    }
    return submounts_start(&p->fs.cache) == 0 ? notifier_start(&p->fs.cache) : -1;
}

/* Stopping */

/* Publishes all that is staged, for as long as a request may take. */
static void publish_everything(struct fs *fs)
{
    uint64_t until = clock_boot_ms() + fs->hub.options->timeout_ms;
    bool left = true;

    while (left && clock_boot_ms() < until) {
        pthread_mutex_lock(&fs->hub.lock);
        left = publish_all(&fs->files);
        pthread_mutex_unlock(&fs->hub.lock);
        if (left)
            usleep(10000);
    }
    if (left)
        log_error("stopping with changes that could not be published within %u ms; they are lost",
                  fs->hub.options->timeout_ms);
}

static bool wait_for_end(struct program *p, int timeout_ms)
{
    struct pollfd fd = {.fd = p->ended, .events = POLLIN};

    return poll(&fd, 1, timeout_ms) > 0;
}

static void on_ended(struct call *call, int code, const union answer_body *answer)
{
    call_end(call);
}

/* Tells the cluster that the session is not needed any more; no answer is awaited for long. */
static void end_session(struct fs *fs)
{
    struct command_body body = {0};
    struct call *call;
    int i;

    pthread_mutex_lock(&fs->hub.lock);
    call = fs->hub.uplink.client != NULL && fs->hub.uplink.session != 0
               ? call_begin(&fs->hub, NULL, CALL_PLAIN)
               : NULL;
    if (call != NULL)
        uplink_write(call, COMMAND_END, &body, on_ended);
    for (i = 0; i < 50 && !TAILQ_EMPTY(&fs->hub.calls.all); i++) {
        pthread_mutex_unlock(&fs->hub.lock);
        usleep(10000);
        pthread_mutex_lock(&fs->hub.lock);
    }
    pthread_mutex_unlock(&fs->hub.lock);
}

static void take_down(struct program *p, bool mounted)
{
    unsigned i;

    if (mounted) {
        publish_everything(&p->fs);
        mountpoint_detach(p->options.mountpoint);
        /* Without users the session ends now; with users it ends with us. */
        if (!wait_for_end(p, DETACHED_MS)) {
            log_warn("files are still open; they are cut off");
            publish_everything(&p->fs);
            end_session(&p->fs);
            _exit(EXIT_SUCCESS);
        }
    }
    for (i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i], NULL);
    publish_everything(&p->fs);
    end_session(&p->fs);
    notifier_stop(&p->fs.cache);
    submounts_stop(&p->fs.cache);
    uplink_stop(&p->fs.hub);
}

/* Until a signal comes (true) or the mount is taken away (false). */
static bool wait_for_signal(struct program *p)
{
    struct pollfd fds[2] = {{.fd = p->signals, .events = POLLIN}, {.fd = p->ended, .events = POLLIN}};
    struct signalfd_siginfo info;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return true;
        if (fds[1].revents != 0)
            return false;
        if (fds[0].revents != 0 && read(p->signals, &info, sizeof info) == (ssize_t)sizeof info) {
            if (info.ssi_signo == SIGHUP) { /* a terminal that is closed is no reason to unmount */
                log_info("%s: goes on; fusermount3 -u or SIGTERM ends the mount", strsignal(SIGHUP));
                continue;
            }
            log_info("stopping: %s", strsignal((int)info.ssi_signo));
            return true;
        }
    }
}

static int run(struct program *p)
{
    struct options *o = &p->options;
    int rc = EXIT_FAILURE;
    bool mounted = false;

    block_signals(p);
    if (fs_init(&p->fs, o) != 0 || p->signals < 0 || p->ended < 0) {
        perror("kvfs");
        goto end;
    }
    /* The daemon keeps no directory busy. */
    if (!o->foreground && chdir("/") != 0)
        perror("kvfs");
    if (connect_cluster(p) != 0)
        goto end;
    p->session = fuse_session_new(&o->fuse, &operations, sizeof operations, &p->fs);
    if (p->session == NULL) {
        rc = EXIT_USAGE;
        goto end;
    }
    p->fs.hub.session = p->session;
    if (mount_here(p) != 0)
        goto end;
    mounted = true;
    if (session_io_start(p->session) != 0) {
        fprintf(stderr, "kvfs: out of memory\n");
        goto end;
    }
    if (start_threads(p) != 0) {
        take_down(p, true);
        goto end;
    }
    if (o->foreground || p->ready_pipe >= 0)
        redirect_output(o);
    tell_parent(p, EXIT_SUCCESS);
    take_down(p, wait_for_signal(p));
    rc = EXIT_SUCCESS;

end:
    tell_parent(p, rc);
    if (p->session != NULL) {
        if (mounted)
            fuse_session_unmount(p->session);
        fuse_session_destroy(p->session);
    }
    fs_deinit(&p->fs);
    close(p->signals);
    close(p->ended);
    return rc;
}

/* The daemon looks for sockets from another directory. */
static void fix_socket_directory(void)
{
    const char *given = getenv("KVNODE_SOCKET_DIR");
    char *path = given != NULL && given[0] != '\0' && given[0] != '/' ? realpath(given, NULL) : NULL;

    if (path != NULL && setenv("KVNODE_SOCKET_DIR", path, 1) != 0)
        perror("kvfs");
    free(path);
}

int main(int argc, char **argv)
{
    struct program *p = &program;
    int rc = EXIT_FAILURE;
    char *mountpoint;

    p->ready_pipe = -1;
    fix_socket_directory();
    switch (options_parse(argc, argv, &p->options)) {
    case OPTIONS_DONE:
        options_free(&p->options);
        return EXIT_SUCCESS;
    case OPTIONS_USAGE:
        options_free(&p->options);
        return EXIT_USAGE;
    default:
        break;
    }
    log_open("kvfs", p->options.verbose || p->options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    mountpoint = mountpoint_prepare(p->options.mountpoint, p->options.remount);
    if (mountpoint != NULL) {
        free(p->options.mountpoint);
        p->options.mountpoint = mountpoint;
        if (p->options.remount) {
            rc = remount(&p->options);
            options_free(&p->options);
            return rc;
        }
        if (!p->options.foreground)
            go_to_background(p);
        rc = run(p);
    }
    options_free(&p->options);
    return rc;
}
