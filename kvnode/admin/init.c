/* init: what a node is made of. Nothing that exists is touched: the data
 * directory must be missing or empty and the configuration file missing. The
 * configuration is checked before anything is made, and written last, so a node
 * that has a configuration is complete. */
#include "kvnode/admin/verbs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/config/config.h"
#include "sync/ssh/identity.h"

static int make_parents(const char *path, mode_t mode)
{
    char dir[PATH_MAX];
    if ((size_t)snprintf(dir, sizeof dir, "%s", path) >= sizeof dir)
        return -ENAMETOOLONG;
    for (char *p = strchr(dir + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(dir, mode) != 0 && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return 0;
}

/* 1: empty or missing, 0: something is in it, -errno. */
static int is_free(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    int found = 0;
    if (d == NULL)
        return errno == ENOENT ? 1 : -errno;
    while ((e = readdir(d)) != NULL)
        found |= strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return !found;
}

/* A new file with this text, on the disk before this returns. */
static int write_new(const char *path, const char *text, mode_t mode)
{
    size_t len = strlen(text);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int rc = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 ? 0 : -(errno != 0 ? errno : EIO);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc != 0)
        unlink(path);
    return rc;
}

struct plan {
    const char *name, *listen;
    uint64_t id;
    char cluster[20];
    bool founds; /* no --cluster was given */
    char file[PATH_MAX], data[PATH_MAX];
    char text[4096];
};

static int absolute(const char *path, char *out, size_t size)
{
    char cwd[PATH_MAX];
    int n;
    if (path[0] == '/')
        n = snprintf(out, size, "%s", path);
    else if (getcwd(cwd, sizeof cwd) == NULL)
        return -errno;
    else
        n = snprintf(out, size, "%s/%s", cwd, path);
    return (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int plan_node(const struct admin *a, struct plan *p)
{
    char dir[PATH_MAX - 64], socket[PATH_MAX] = "";
    uint64_t random;
    p->name = a->opt[OPT_NAME] != NULL ? a->opt[OPT_NAME] : "n1";
    p->listen = a->opt[OPT_LISTEN] != NULL ? a->opt[OPT_LISTEN] : "127.0.0.1:7022";
    p->id = 1;
    if (!identity_peer_name_valid(p->name))
        return admin_usage(a, "--name %s: use 1 to 32 of A-Z a-z 0-9 . _ -", p->name);
    if (a->opt[OPT_ID] != NULL && !admin_parse_number(a->opt[OPT_ID], 1, 65535, &p->id))
        return admin_usage(a, "--id %s: use a number from 1 to 65535", a->opt[OPT_ID]);
    if (a->opt[OPT_CLUSTER] != NULL) {
        if (strlen(a->opt[OPT_CLUSTER]) != 16 || strspn(a->opt[OPT_CLUSTER], "0123456789abcdefABCDEF") != 16)
            return admin_usage(
                a, "--cluster %s: use the 16 hexadecimal digits that the first node's init printed",
                a->opt[OPT_CLUSTER]);
        snprintf(p->cluster, sizeof p->cluster, "%s", a->opt[OPT_CLUSTER]);
    } else {
        p->founds = true;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return admin_fail(a, EXIT_FAILED, NULL, "no random numbers: %s", strerror(errno));
        snprintf(p->cluster, sizeof p->cluster, "%016llx", (unsigned long long)(random | 1));
    }
    int rc = a->opt[OPT_DATA] != NULL ? absolute(a->opt[OPT_DATA], p->data, sizeof p->data)
                                      : config_default_data(p->name, p->data, sizeof p->data);
    if (rc == 0 && a->opt[OPT_SOCKET] != NULL)
        rc = absolute(a->opt[OPT_SOCKET], socket, sizeof socket);
    if (rc == 0 && a->opt[OPT_CONFIG] != NULL) {
        rc = absolute(a->opt[OPT_CONFIG], p->file, sizeof p->file);
    } else if (rc == 0) {
        rc = config_dir(dir, sizeof dir);
        if (rc == 0)
            snprintf(p->file, sizeof p->file, "%s/%s.conf", dir, p->name);
    }
    if (rc != 0)
        return admin_fail(a, EXIT_USAGE, NULL, "no place for the files (%s); give --data DIR and -c FILE",
                          strerror(-rc));
    int n = snprintf(p->text, sizeof p->text,
                     "# A node of kvfs. Every setting with its source: kvnode config -c %s\n"
                     "[node]\nname = %s\nid = %llu\ndata = %s\n%s%s%s\n"
                     "[cluster]\nid = %s\n\n[ssh]\nlisten = %s\n\n"
                     "# One [peer NAME] section for each other node: kvnode config --peer (with its -c FILE) "
                     "prints it there.\n",
                     strlen(p->file) < 110 ? p->file : "FILE", p->name, (unsigned long long)p->id, p->data,
                     socket[0] != '\0' ? "socket = " : "", socket, socket[0] != '\0' ? "\n" : "", p->cluster,
                     p->listen);
    return (size_t)n < sizeof p->text ? EXIT_OK : admin_usage(a, "a path is too long");
}

static int check(const struct admin *a, const struct plan *p)
{
    const struct config_request request = {0};
    struct config *config;
    char message[1024];
    if (config_parse(p->text, strlen(p->text), "the new configuration", &request, &config, message,
                     sizeof message) != 0)
        return admin_fail(a, EXIT_USAGE, NULL, "%s", message);
    config_free(config);
    if (access(p->file, F_OK) == 0)
        return admin_fail(a, EXIT_REFUSED, NULL,
                          "%s exists; nothing was changed. Use another %s, or remove that node first",
                          p->file, a->opt[OPT_CONFIG] != NULL ? "-c" : "--name");
    int rc = is_free(p->data);
    if (rc == 0)
        return admin_fail(
            a, EXIT_REFUSED, NULL,
            "%s is not empty; nothing was changed. A node begins with an empty data directory: use "
            "another --data, or remove it if its node is not needed",
            p->data);
    if (rc < 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s; nothing was changed", p->data, strerror(-rc));
    return EXIT_OK;
}

static int make(const struct admin *a, const struct plan *p)
{
    char path[PATH_MAX + 32], comment[64], message[512];
    int rc = make_parents(p->data, 0755);
    if (rc == 0 && mkdir(p->data, 0700) != 0 && errno != EEXIST)
        rc = -errno;
    if (rc == 0 && chmod(p->data, 0700) != 0)
        rc = -errno;
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "data directory %s: %s", p->data, strerror(-rc));
    snprintf(comment, sizeof comment, "kvnode-%s", p->name);
    static const char *const keys[] = {"client_key", "host_key"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/ssh/%s", p->data, keys[i]);
        if (identity_ensure(path, comment, message, sizeof message) != 0)
            return admin_fail(a, EXIT_FAILED, NULL, "%s. Then remove %s and run kvnode init again", message,
                              p->data);
    }
    rc = 0;
    snprintf(path, sizeof path, "%s/founding", p->data);
    /* The others wait until a member lets them in: there is one founding of a cluster. */
    if (p->founds)
        rc = write_new(
            path,
            "This node has never run. Its first start founds the cluster of its configuration file:\n"
            "itself and the [peer] sections.\n",
            0600);
    if (rc == 0)
        rc = make_parents(p->file, 0755);
    if (rc == 0)
        rc = write_new(p->file, p->text, 0644);
    if (rc != 0)
        return admin_fail(a, EXIT_FAILED, NULL, "%s: %s. Then remove %s and run kvnode init again", p->file,
                          strerror(-rc), p->data);
    return EXIT_OK;
}

int verb_init(struct admin *a)
{
    struct plan *p = calloc(1, sizeof *p);
    if (p == NULL)
        return admin_fail(a, EXIT_FAILED, NULL, "out of memory");
    int exit = plan_node(a, p);
    if (exit == EXIT_OK)
        exit = check(a, p);
    if (exit == EXIT_OK)
        exit = make(a, p);
    if (exit == EXIT_OK && a->opt[OPT_QUIET] == NULL) {
        printf("node %s (id %llu) of cluster %s\n", p->name, (unsigned long long)p->id, p->cluster);
        printf("  configuration  %s\n  data           %s\n  keys           %s/ssh\n", p->file, p->data,
               p->data);
        char which[PATH_MAX + 8];
        if (a->opt[OPT_CONFIG] != NULL)
            snprintf(which, sizeof which, "-c %s", p->file);
        else
            snprintf(which, sizeof which, "-n %s", p->name);
        if (p->founds)
            printf("It founds this cluster at its first start, with those of its [peer] sections. For each "
                   "other\n"
                   "node: kvnode init --cluster %s ..., and exchange the sections first\n"
                   "(kvnode config %s --peer)\n",
                   p->cluster, which);
        else
            printf("It waits until a member of that cluster lets it in: exchange the [peer] sections first\n"
                   "(kvnode config %s --peer)\n",
                   which);
        printf("Start it: kvnode run %s\n", which);
    }
    free(p);
    return exit;
}
