/* What the try-out cluster's nodes are made of. Safe to interrupt anywhere: each
 * step looks at what is there and does the rest. */
#include "kvnode/admin/dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "sync/base/digest.h"
#include "sync/ssh/identity.h"

__attribute__((format(printf, 2, 3))) static bool path(char out[static DEV_PATH_MAX], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, DEV_PATH_MAX, fmt, ap);
    va_end(ap);
    return n >= 0 && n < DEV_PATH_MAX;
}

static int make_dir(const char *dir, mode_t mode)
{
    return mkdir(dir, mode) == 0 || errno == EEXIST ? 0 : -errno;
}

static bool is_own_directory(const char *dir)
{
    struct stat st;
    return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0;
}

static int link_to(const char *target, const char *link)
{
    char now[DEV_PATH_MAX];
    ssize_t n = readlink(link, now, sizeof now - 1);
    if (n > 0) {
        now[n] = '\0';
        if (strcmp(now, target) == 0)
            return 0;
        unlink(link);
    }
    return symlink(target, link) == 0 ? 0 : -errno;
}

/* Sets base and program: plain, short paths. */
static int choose_base(struct dev *d)
{
    char exe[DEV_PATH_MAX], detour[DEV_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return -errno;
    exe[n] = '\0';
    bool plain = identity_path_valid(d->dir) && strlen(d->dir) <= 80;
    if (plain && identity_path_valid(exe)) {
        strcpy(d->base, d->dir);
        strcpy(d->program, exe);
        return 0;
    }
    uint64_t hash = digest64(0, d->dir, strlen(d->dir));
    path(detour, "/tmp/kvfs-dev-%u-%016llx", (unsigned)geteuid(), (unsigned long long)hash);
    int rc = make_dir(detour, 0700);
    if (rc == 0 && !is_own_directory(detour))
        rc = -EPERM;
    path(d->base, "%s/d", detour);
    path(d->program, "%s/kvnode", detour);
    if (rc == 0)
        rc = link_to(d->dir, d->base);
    if (rc == 0)
        rc = link_to(exe, d->program);
    return rc;
}

static bool set_paths(struct dev *d, struct dev_node *n, unsigned id)
{
    n->id = id;
    snprintf(n->name, sizeof n->name, "n%u", id % 100);
    return path(n->config, "%s/conf/%s.conf", d->base, n->name) &&
           path(n->data, "%s/%s/data", d->base, n->name) && path(n->log, "%s/%s/log", d->base, n->name) &&
           path(n->pid_file, "%s/%s/pid", d->base, n->name) &&
           path(n->socket, "%s/sock/%s.sock", d->base, n->name);
}

int dev_open(const struct admin *a, struct dev *d)
{
    const char *dir = getenv("KVNODE_DEV_DIR");
    char cwd[DEV_PATH_MAX - 300];
    *d = (struct dev){.a = a, .timeout_ms = a->opt[OPT_TIMEOUT] != NULL ? a->timeout_ms : 30000};
    bool fits = true;
    if (dir != NULL && dir[0] == '/')
        fits = strlen(dir) < 800 && path(d->dir, "%s", dir);
    else if (getcwd(cwd, sizeof cwd) == NULL)
        return admin_fail(a, EXIT_FAILED, NULL, "current directory: %s. Set KVNODE_DEV_DIR", strerror(errno));
    else
        fits = path(d->dir, "%s/%s", cwd, dir != NULL && dir[0] != '\0' ? dir : "run");
    if (!fits)
        return admin_usage(a, "the path of the try-out cluster's folder is too long");
    int rc = choose_base(d);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s", d->base[0] != '\0' ? d->base : "/proc/self/exe",
                          strerror(-rc));
    for (unsigned id = 1; id <= DEV_NODES_MAX; id++) {
        struct dev_node *n = &d->nodes[d->n_nodes];
        const struct config_request request = {.file = n->config};
        struct config *config;
        char message[1024];
        if (!set_paths(d, n, id))
            return admin_usage(a, "the path of the try-out cluster's folder is too long");
        if (access(n->config, F_OK) != 0)
            break;
        if (config_load(&request, &config, message, sizeof message) != 0)
            return admin_fail(a, EXIT_FAILED, NULL, "%s. Try: remove %s and begin anew", message, d->dir);
        n->port = config->listen_port;
        n->http_port = config->http_host[0] != '\0' ? config->http_port : 0;
        snprintf(d->cluster_id, sizeof d->cluster_id, "%016llx", (unsigned long long)config->cluster_id);
        config_free(config);
        n->pid = dev_running(n->pid_file);
        d->n_nodes++;
    }
    char env[DEV_PATH_MAX];
    d->complete = d->n_nodes > 0 && path(env, "%s/env", d->base) && access(env, F_OK) == 0;
    return EXIT_OK;
}

static int bind_port(uint16_t port, uint16_t *chosen_out)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof at;
    int one = 1, rc = 0;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
               sizeof one); /* as sshd does: old connections do not matter */
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        rc = -errno;
    close(fd);
    if (rc == 0 && chosen_out != NULL)
        *chosen_out = ntohs(at.sin_port);
    return rc;
}

bool dev_port_is_free(uint16_t port)
{
    return bind_port(port, NULL) == 0;
}

/* Below the range from which the kernel takes ports of outgoing connections, so
 * that a remembered port is not taken by chance later. */
static uint16_t choose_port(const struct dev *d, size_t n_nodes)
{
    uint16_t seed = 0, port = 0;
    (void)!getrandom(&seed, sizeof seed, 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint16_t candidate = (uint16_t)(20000 + (seed + i * 7) % 12000);
        bool used = false;
        for (size_t j = 0; j < n_nodes; j++)
            used |= d->nodes[j].port == candidate || d->nodes[j].http_port == candidate;
        if (!used && dev_port_is_free(candidate))
            return candidate;
    }
    return bind_port(0, &port) == 0 ? port : 0;
}

/* kvnode init of a node that is not there yet. */
static int init_node(const struct dev *d, const struct dev_node *n)
{
    char listen[32], id[8], out[1024] = "";
    int pipe_fds[2], status;
    snprintf(listen, sizeof listen, "127.0.0.1:%u", (unsigned)n->port);
    snprintf(id, sizeof id, "%u", n->id % 100);
    /* The first founds the cluster and gives it its id. */
    const char *const argv[] = {d->program,    "init",    "--config", n->config,
                                "--name",      n->name,   "--id",     id,
                                "--data",      n->data,   "--listen", listen,
                                "--socket",    n->socket, "--quiet",  n->id == 1 ? NULL : "--cluster",
                                d->cluster_id, NULL};
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return admin_fail(d->a, EXIT_FAILED, n->name, "%s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], 1);
        dup2(pipe_fds[1], 2);
        execv(d->program, (char *const *)argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    size_t len = 0;
    ssize_t got;
    while (len < sizeof out - 1 && (got = read(pipe_fds[0], out + len, sizeof out - 1 - len)) > 0)
        len += (size_t)got;
    out[len] = '\0';
    close(pipe_fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return admin_fail(d->a, EXIT_FAILED, n->name, "kvnode init failed: %s", out);
    return EXIT_OK;
}

static bool learn_cluster(struct dev *d, const struct dev_node *n)
{
    const struct config_request request = {.file = n->config};
    struct config *config;
    char message[1024];
    if (config_load(&request, &config, message, sizeof message) != 0)
        return admin_fail(d->a, EXIT_FAILED, NULL, "%s", message) == EXIT_OK;
    snprintf(d->cluster_id, sizeof d->cluster_id, "%016llx", (unsigned long long)config->cluster_id);
    config_free(config);
    return true;
}

static int replace_file(const char *file, const char *text)
{
    char temporary[DEV_PATH_MAX + 8];
    snprintf(temporary, sizeof temporary, "%s.new", file);
    FILE *f = fopen(temporary, "we");
    if (f == NULL)
        return -errno;
    fputs(text, f);
    bool failed = fflush(f) != 0 || fsync(fileno(f)) != 0;
    if (fclose(f) != 0 || failed || rename(temporary, file) != 0)
        return errno != 0 ? -errno : -EIO;
    return 0;
}

static int write_config(const struct dev *d, const struct dev_node *n)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL)
        return -ENOMEM;
    fprintf(f,
            "# Made by kvnode dev, which writes it again when a port has to change.\n"
            "[node]\nname = %s\nid = %u\ndata = %s\nsocket = %s\n\n[cluster]\nid = %s\n\n"
            "[ssh]\nlisten = 127.0.0.1:%u\n\n[http]\nlisten = 127.0.0.1:%u\n",
            n->name, n->id, n->data, n->socket, d->cluster_id, (unsigned)n->port, (unsigned)n->http_port);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < d->n_nodes; i++) {
        const struct dev_node *p = &d->nodes[i];
        char file[DEV_PATH_MAX], key[IDENTITY_PUBLIC_MAX], host_key[IDENTITY_PUBLIC_MAX];
        if (p == n)
            continue;
        if (!path(file, "%s/ssh/client_key", p->data))
            rc = -ENAMETOOLONG;
        if (rc == 0)
            rc = identity_read_public(file, key);
        if (rc == 0 && !path(file, "%s/ssh/host_key", p->data))
            rc = -ENAMETOOLONG;
        if (rc == 0)
            rc = identity_read_public(file, host_key);
        if (rc == 0)
            fprintf(f, "\n[peer %s]\nid = %u\naddress = 127.0.0.1:%u\nhost_key = %s\nkey = %s\n", p->name,
                    p->id, (unsigned)p->port, host_key, key);
    }
    if (fclose(f) != 0 && rc == 0)
        rc = -ENOMEM;
    if (rc == 0)
        rc = replace_file(n->config, text);
    free(text);
    return rc;
}

/* Single quotes for sh. */
static void quoted(FILE *f, const char *text)
{
    fputc('\'', f);
    for (; *text != '\0'; text++)
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fputc(*text, f);
    fputc('\'', f);
}

static int write_env(const struct dev *d)
{
    char exe[DEV_PATH_MAX], file[DEV_PATH_MAX], kvfs[DEV_PATH_MAX + 16], *text = NULL;
    size_t size;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return -errno;
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    if (!path(file, "%s/env", d->base))
        return -ENAMETOOLONG;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL)
        return -ENOMEM;
    fputs("# For sh: . run/env\nexport KVNODE_DEV_DIR=", f);
    quoted(f, d->dir);
    fprintf(f,
            "\nexport KVNODE_SOCKET_DIR='%s/sock'\nexport KVNODE_CONFIG_DIR='%s/conf'\nkvfs_path=", d->base,
            d->base);
    quoted(f, exe);
    snprintf(kvfs, sizeof kvfs, "%s/../kvfs/kvfs", exe);
    if (access(kvfs, X_OK) == 0) {
        *strrchr(exe, '/') = '\0';
        strcat(exe, "/kvfs");
        fputc(':', f);
        quoted(f, exe);
    }
    fputs("\ncase \":$PATH:\" in\n*\":$kvfs_path:\"*) ;;\n*) PATH=$kvfs_path:$PATH; export PATH ;;\nesac\n"
          "unset kvfs_path\n",
          f);
    int rc = fclose(f) == 0 ? replace_file(file, text) : -ENOMEM;
    free(text);
    return rc;
}

static int make_folders(const struct dev *d)
{
    static const char *const folders[] = {"", "/conf", "/sock"};
    char dir[DEV_PATH_MAX];
    int rc = make_dir(d->dir, 0755); /* before base, which may be a link to it */
    for (size_t i = 1; rc == 0 && i < 3; i++)
        rc = path(dir, "%s%s", d->base, folders[i]) ? make_dir(dir, i == 2 ? 0700 : 0755) : -ENAMETOOLONG;
    return rc;
}

/* A folder without a configuration is what an interrupted attempt left. */
static void remove_leftover(const struct dev *d, const struct dev_node *n)
{
    static const char *const files[] = {"ssh/client_key", "ssh/client_key.pub", "ssh/host_key",
                                        "ssh/host_key.pub", "founding"};
    char file[DEV_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (path(file, "%s/%s", n->data, files[i]))
            unlink(file);
    if (path(file, "%s/ssh", n->data))
        rmdir(file);
    rmdir(n->data);
}

int dev_prepare(struct dev *d, size_t n, bool *moved_out)
{
    char dir[DEV_PATH_MAX];
    int rc = make_folders(d);
    *moved_out = !d->complete;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct dev_node *node = &d->nodes[i];
        if (node->pid == 0 && (node->port == 0 || !dev_port_is_free(node->port))) {
            set_paths(d, node, (unsigned)i + 1);
            node->port = choose_port(d, n);
            *moved_out = true;
        }
        /* One of an earlier version that runs without HTTP goes on so. */
        if (node->pid == 0 && (node->http_port == 0 || !dev_port_is_free(node->http_port))) {
            node->http_port = choose_port(d, n);
            *moved_out = true;
        }
        if (i < d->n_nodes)
            continue;
        rc = path(dir, "%s/%s", d->base, node->name) ? make_dir(dir, 0755) : -ENAMETOOLONG;
        if (rc == 0)
            remove_leftover(d, node);
        if (rc == 0 && (init_node(d, node) != EXIT_OK || (i == 0 && !learn_cluster(d, node))))
            return EXIT_FAILED;
        d->n_nodes = i + 1;
    }
    for (size_t i = 0; rc == 0 && *moved_out && i < n; i++)
        rc = write_config(d, &d->nodes[i]);
    if (rc == 0)
        rc = write_env(d);
    return rc == 0 ? EXIT_OK : admin_fail(d->a, EXIT_FAILED, NULL, "%s: %s", d->dir, strerror(-rc));
}
