/* authorized_keys is the security of a cluster: whatever stands in a command=""
 * there is run by a shell, as the service user. So nothing is quoted or escaped:
 * names and paths with any character that sshd's parser or a shell could read
 * are refused. */
#include "sync/ssh/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/base/buffer.h"
#include "sync/base/disk.h"
#include "sync/ssh/process.h"

#define KEYGEN_MS 10000

static const char letters_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static bool only(const char *text, const char *more)
{
    for (; *text != '\0'; text++)
        if (strchr(letters_digits, *text) == NULL && strchr(more, *text) == NULL)
            return false;
    return true;
}

bool identity_peer_name_valid(const char *name)
{
    size_t n = strlen(name);

    return n >= 1 && n <= SSH_PEER_NAME_MAX && name[0] != '-' && name[0] != '.' && only(name, "._-");
}

bool identity_path_valid(const char *path)
{
    return path[0] == '/' && strlen(path) < PATH_MAX && only(path, "/._-+,:@=");
}

static bool host_valid(const char *host)
{
    size_t n = strlen(host);

    return n >= 1 && n <= 253 && host[0] != '-' && only(host, ".-_:");
}

__attribute__((format(printf, 4, 5))) static int refuse(int error, char *message, size_t size,
                                                        const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, size, fmt, args);
    va_end(args);
    return error;
}

static int parent_of(const char *path, char out[static PATH_MAX])
{
    char *slash;

    if (snprintf(out, PATH_MAX, "%s", path) >= PATH_MAX)
        return -ENAMETOOLONG;
    slash = strrchr(out, '/');
    if (slash == NULL)
        snprintf(out, PATH_MAX, ".");
    else if (slash == out)
        out[1] = '\0';
    else
        *slash = '\0';
    return 0;
}

/* The directory is ours and nobody else may write to it or look into it. */
static int ensure_directory(const char *dir, char *message, size_t size)
{
    struct stat st;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return refuse(-errno, message, size, "cannot create %s: %s", dir, strerror(errno));
    if (stat(dir, &st) < 0)
        return refuse(-errno, message, size, "cannot use %s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return refuse(-ENOTDIR, message, size, "%s is no directory", dir);
    if (st.st_uid != geteuid())
        return refuse(-EPERM, message, size, "%s belongs to another user (uid %u)", dir, st.st_uid);
    if ((st.st_mode & 077) != 0)
        return refuse(-EPERM, message, size, "%s has mode %04o: chmod 700 it", dir, st.st_mode & 07777u);
    return 0;
}

static int check_private(const char *path, char *message, size_t size)
{
    char public_key[IDENTITY_PUBLIC_MAX];
    struct stat st;
    int error;

    if (lstat(path, &st) < 0)
        return refuse(-errno, message, size, "cannot use %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
        return refuse(-EPERM, message, size, "%s is not a file of this user", path);
    if ((st.st_mode & 077) != 0)
        return refuse(-EPERM, message, size, "%s has mode %04o: chmod 600 it", path, st.st_mode & 07777u);
    error = identity_read_public(path, public_key);
    if (error == -EINVAL)
        return refuse(error, message, size, "%s is not an ed25519 key in OpenSSH form without a passphrase",
                      path);
    if (error < 0)
        return refuse(error, message, size, "cannot read %s: %s", path, strerror(-error));
    return 0;
}

static int generate(const char *path, const char *comment, char *message, size_t size)
{
    const char *const argv[] = {"ssh-keygen", "-q",    "-t", "ed25519", "-N", "",
                                "-C",         comment, "-f", path,      NULL};
    struct buffer output = BUFFER_INIT;
    int status = 0, error = process_run(argv, KEYGEN_MS, &output, &status);

    if (error == -ENOENT)
        refuse(error, message, size, "ssh-keygen is not installed (package openssh-client)");
    else if (error == -ETIMEDOUT)
        refuse(error, message, size, "ssh-keygen did not end within %d s", KEYGEN_MS / 1000);
    else if (error < 0)
        refuse(error, message, size, "cannot run ssh-keygen: %s", strerror(-error));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        error =
            refuse(-EIO, message, size, "ssh-keygen failed for %s: %.*s", path,
                   (int)strcspn(output.len > 0 ? (buffer_put_u8(&output, 0), (char *)output.data) : "", "\n"),
                   output.len > 0 ? (char *)output.data : "");
    buffer_deinit(&output);
    return error;
}

/* Whether the file says that already: a node must start on a full disk. */
static bool is_written(const char *path, const struct buffer *content, mode_t mode)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    bool same = false;
    char *text = NULL;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == mode &&
        st.st_uid == geteuid() && (size_t)st.st_size == content->len)
        text = malloc(content->len + 1);
    if (text != NULL)
        same = read(fd, text, content->len) == (ssize_t)content->len &&
               memcmp(text, content->data, content->len) == 0;
    free(text);
    close(fd);
    return same;
}

/* Content, mode 0600 (or mode), durable, all or nothing. */
static int replace_file(const char *path, const struct buffer *content, mode_t mode, char *message,
                        size_t size)
{
    char temporary[PATH_MAX], dir[PATH_MAX];
    int fd, error = 0;
    size_t done = 0;

    if (content->failed)
        return refuse(-ENOMEM, message, size, "out of memory");
    if (content->len > 0 && is_written(path, content, mode))
        return 0;
    if (parent_of(path, dir) < 0 || snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= PATH_MAX)
        return refuse(-ENAMETOOLONG, message, size, "the path is too long: %s", path);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return refuse(-errno, message, size, "cannot write in %s: %s", dir, strerror(errno));
    while (error == 0 && done < content->len) {
        ssize_t n = write(fd, content->data + done, content->len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EINTR)
            error = -errno;
    }
    if (error == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
        error = -errno;
    if (close(fd) < 0 && error == 0)
        error = -errno;
    if (error == 0 && rename(temporary, path) < 0)
        error = -errno;
    if (error < 0) {
        unlink(temporary);
        return refuse(error, message, size, "cannot write %s: %s", path, strerror(-error));
    }
    error = disk_sync_name(path);
    return error < 0 ? refuse(error, message, size, "cannot write %s: %s", path, strerror(-error)) : 0;
}

int identity_ensure(const char *path, const char *comment, char *message_out, size_t message_size)
{
    char dir[PATH_MAX], pub[PATH_MAX], public_key[IDENTITY_PUBLIC_MAX];
    struct buffer line = BUFFER_INIT;
    int error;

    message_out[0] = '\0';
    if (comment[0] == '-' || !only(comment, "._-@+:"))
        return refuse(-EINVAL, message_out, message_size,
                      "a key's comment has letters, digits and ._-@+: only");
    if (parent_of(path, dir) < 0 || snprintf(pub, sizeof pub, "%s.pub", path) >= (int)sizeof pub)
        return refuse(-ENAMETOOLONG, message_out, message_size, "the path is too long: %s", path);
    error = ensure_directory(dir, message_out, message_size);
    if (error == 0 && access(path, F_OK) < 0 && errno == ENOENT) {
        /* ssh-keygen asks whether it may overwrite a .pub that was left alone. */
        unlink(pub);
        error = generate(path, comment, message_out, message_size);
    }
    if (error == 0)
        error = check_private(path, message_out, message_size);
    if (error == 0 && access(pub, F_OK) < 0) {
        identity_read_public(path, public_key);
        buffer_put_bytes(&line, public_key, strlen(public_key));
        buffer_put_bytes(&line, " ", 1);
        buffer_put_bytes(&line, comment, strlen(comment));
        buffer_put_bytes(&line, "\n", 1);
        error = replace_file(pub, &line, 0644, message_out, message_size);
        buffer_deinit(&line);
    }
    return error;
}

__attribute__((format(printf, 2, 3))) static void put_line(struct buffer *b, const char *fmt, ...)
{
    char line[3 * PATH_MAX];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line)
        b->failed = true;
    else
        buffer_put_bytes(b, line, (size_t)n);
}

static int check_peer(const struct identity_peer *peers, size_t i, char *message, size_t size)
{
    const struct identity_peer *p = &peers[i];
    char key[IDENTITY_PUBLIC_MAX], other[IDENTITY_PUBLIC_MAX];

    if (!identity_peer_name_valid(p->name))
        return refuse(-EINVAL, message, size,
                      "peer %zu has an invalid name (1 to %d letters, digits, . _ -, no dash or dot first)",
                      i + 1, SSH_PEER_NAME_MAX);
    if (!identity_public_valid(p->public_key, key))
        return refuse(-EINVAL, message, size, "the public key of peer %s is not an ed25519 key", p->name);
    if (!identity_path_valid(p->bridge_path) || !identity_path_valid(p->socket_path))
        return refuse(-EINVAL, message, size,
                      "the program's or socket's path for peer %s is not absolute, or has a character other "
                      "than letters, digits and /._-+,:@=",
                      p->name);
    for (size_t j = 0; j < i; j++) {
        if (strcmp(peers[j].name, p->name) == 0)
            return refuse(-EEXIST, message, size, "peer %s is listed twice", p->name);
        if (identity_public_valid(peers[j].public_key, other) && strcmp(other, key) == 0)
            return refuse(-EEXIST, message, size, "peers %s and %s have the same key", peers[j].name,
                          p->name);
    }
    return 0;
}

int identity_write_authorized_keys(const char *path, const struct identity_peer *peers, size_t n_peers,
                                   char *message_out, size_t message_size)
{
    struct buffer text = BUFFER_INIT;
    char key[IDENTITY_PUBLIC_MAX];
    int error = 0;

    message_out[0] = '\0';
    for (size_t i = 0; i < n_peers && error == 0; i++) {
        error = check_peer(peers, i, message_out, message_size);
        if (error < 0)
            break;
        identity_public_valid(peers[i].public_key, key);
        /* exec: no shell stays behind the bridge. */
        put_line(&text, "restrict,command=\"exec %s bridge --peer %s --socket %s\" %s %s\n",
                 peers[i].bridge_path, peers[i].name, peers[i].socket_path, key, peers[i].name);
    }
    if (error == 0)
        error = replace_file(path, &text, 0600, message_out, message_size);
    buffer_deinit(&text);
    return error;
}

int identity_write_known_hosts(const char *path, const struct identity_pin *pins, size_t n_pins,
                               char *message_out, size_t message_size)
{
    struct buffer text = BUFFER_INIT;
    char key[IDENTITY_PUBLIC_MAX];
    int error = 0;

    message_out[0] = '\0';
    for (size_t i = 0; i < n_pins && error == 0; i++) {
        const struct identity_pin *p = &pins[i];

        if (!host_valid(p->host) || p->port == 0)
            error = refuse(-EINVAL, message_out, message_size, "pin %zu has an invalid host or port", i + 1);
        else if (!identity_public_valid(p->public_key, key))
            error = refuse(-EINVAL, message_out, message_size,
                           "the host key of %s port %u is not an ed25519 key", p->host, p->port);
        for (size_t j = 0; j < i && error == 0; j++)
            if (pins[j].port == p->port && strcasecmp(pins[j].host, p->host) == 0)
                error = refuse(-EEXIST, message_out, message_size, "%s port %u is pinned twice", p->host,
                               p->port);
        if (error == 0)
            put_line(&text, "[%s]:%u %s\n", p->host, p->port, key);
    }
    if (error == 0)
        error = replace_file(path, &text, 0600, message_out, message_size);
    buffer_deinit(&text);
    return error;
}
