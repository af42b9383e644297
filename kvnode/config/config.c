/* Loading: values are converted when a source gives them, in rising order of
 * strength (default, file, variable, flag), so a bad value in the file is an
 * error even where a flag overrides it. Peers exist in the file only. What
 * depends on several settings (defaults made of the name, required ones, the
 * peers' uniqueness, lengths of socket paths) is checked last, in finish(). */
#include "kvnode/config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvnode/config/config_file.h"
#include "kvnode/config/config_value.h"
#include "sync/ssh/identity.h"
#include "sync/wire/client.h"

struct loader {
    struct config *config;
    char why[600];
};

#define SECTIONS "[node], [cluster], [ssh], [raft], [storage], [http], [peer NAME]"

static int on_section(void *arg, const char *section, unsigned line, char *why, size_t size)
{
    struct config *c = ((struct loader *)arg)->config;
    if (strncmp(section, "peer ", 5) == 0)
        return config_peer_begin(c, section + 5, line, why, size);
    for (size_t i = 0; i < config_n_settings; i++)
        if (strcmp(config_settings[i].section, section) == 0)
            return 0;
    snprintf(why, size, "unknown section [%.60s]; allowed: " SECTIONS, section);
    return -EINVAL;
}

static int on_value(void *arg, const char *section, const char *name, const char *value, unsigned line,
                    char *why, size_t size)
{
    struct config *c = ((struct loader *)arg)->config;
    if (strncmp(section, "peer ", 5) == 0)
        return config_peer_set(&c->peers[c->n_peers - 1], name, value, why, size);
    const struct setting *s = config_find_setting(section, name);
    if (s == NULL) {
        char names[160];
        config_list_names(section, names, sizeof names);
        snprintf(why, size, "unknown name %.60s in [%s]; allowed: %s", name, section, names);
        return -EINVAL;
    }
    const char *before = c->sources[s - config_settings].source;
    if (before != NULL && strcmp(before, "default") != 0) {
        snprintf(why, size, "[%s] %s is given twice, first in line %s", section, name,
                 strrchr(before, ':') + 1);
        return -EINVAL;
    }
    char source[PATH_MAX + 32];
    snprintf(source, sizeof source, "%s:%u", c->file != NULL ? c->file : "-", line);
    return config_set_value(c, s, value, source, why, size);
}

static int take_variables(struct loader *l)
{
    for (size_t i = 0; i < config_n_settings; i++) {
        char variable[64];
        snprintf(variable, sizeof variable, "KVNODE_%s_%s", config_settings[i].section,
                 config_settings[i].name);
        for (char *p = variable; *p != '\0'; p++)
            *p = (char)toupper((unsigned char)*p);
        const char *value = getenv(variable);
        if (value == NULL)
            continue;
        char why[500];
        int rc = config_set_value(l->config, &config_settings[i], value, variable, why, sizeof why);
        if (rc == -EINVAL)
            snprintf(l->why, sizeof l->why, "%s: %s", variable, why);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int take_flag(struct loader *l, const char *flag)
{
    char section[32], name[32];
    int at = 0;
    if (sscanf(flag, "%31[a-z].%31[a-z_]=%n", section, name, &at) != 2 || at == 0) {
        snprintf(l->why, sizeof l->why,
                 "-o %.100s: use -o SECTION.NAME=VALUE, such as -o node.log_level=debug", flag);
        return -EINVAL;
    }
    const struct setting *s = config_find_setting(section, name);
    if (s == NULL) {
        snprintf(l->why, sizeof l->why, "-o %.100s: no such setting; see kvnode config", flag);
        return -EINVAL;
    }
    char why[500];
    int rc = config_set_value(l->config, s, flag + at, "flag", why, sizeof why);
    if (rc == -EINVAL)
        snprintf(l->why, sizeof l->why, "-o: %s", why);
    return rc;
}

/* asprintf into an owned field. */
__attribute__((format(printf, 2, 3))) static int set_format(char **field, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -ENOMEM;
    free(*field);
    *field = text;
    return 0;
}

/* The defaults of the table, before any other source. */
static int take_defaults(struct loader *l)
{
    for (size_t i = 0; i < config_n_settings; i++) {
        const struct setting *s = &config_settings[i];
        if (s->fallback == NULL)
            continue;
        int rc = config_set_value(l->config, s, s->fallback, "default", l->why, sizeof l->why);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int set_default(struct loader *l, const char *section, const char *name, const char *value)
{
    const struct setting *s = config_find_setting(section, name);
    if (config_source_of(l->config, s) != NULL)
        return 0;
    return config_set_value(l->config, s, value, "default", l->why, sizeof l->why);
}

/* The defaults that are made of the name, the account and the environment. */
static int take_late_defaults(struct loader *l)
{
    struct config *c = l->config;
    char path[PATH_MAX], dir[PATH_MAX];
    int rc = 0;
    if (c->data_dir == NULL) {
        if (config_default_data(c->name, path, sizeof path) != 0) {
            snprintf(l->why, sizeof l->why, "[node] data is missing, and without HOME there is no default");
            return -EINVAL;
        }
        rc = set_default(l, "node", "data", path);
    }
    if (rc == 0 && c->socket == NULL) {
        if (config_system_dir("RUNTIME_DIRECTORY", dir, sizeof dir) == NULL &&
            client_socket_dir(dir, sizeof dir) != 0)
            return -ENAMETOOLONG;
        if ((size_t)snprintf(path, sizeof path, "%s/%s.sock", dir, c->name) >= sizeof path)
            return -ENAMETOOLONG;
        rc = set_default(l, "node", "socket", path);
    }
    if (rc == 0 && c->ssh_user == NULL) {
        /* Root asks about nodes of other accounts. */
        struct stat st;
        const struct passwd *account = getpwuid(stat(c->data_dir, &st) == 0 ? st.st_uid : geteuid());
        rc = set_default(l, "ssh", "user", account != NULL ? account->pw_name : "root");
    }
    return rc;
}

static int derive_key(char **field, const char *ssh_dir, const char *name)
{
    char dir[PATH_MAX];
    if (config_system_dir("CREDENTIALS_DIRECTORY", dir, sizeof dir) != NULL) {
        int rc = set_format(field, "%s/%s", dir, name);
        if (rc != 0 || access(*field, F_OK) == 0)
            return rc;
    }
    return set_format(field, "%s/%s", ssh_dir, name);
}

static int derive(struct config *c)
{
    char dir[PATH_MAX];
    const char *program = getenv("KVNODE_PROGRAM");
    if (program == NULL || program[0] != '/') {
        ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
        if (n < 0)
            return -errno;
        dir[n] = '\0';
        program = dir;
    }
    int rc = set_format(&c->program, "%s", program);
    const char *run = config_system_dir("RUNTIME_DIRECTORY", dir, sizeof dir);
    if (rc == 0)
        rc = set_format(&c->run_dir, "%s", run != NULL ? run : c->data_dir);
    if (rc == 0)
        rc = set_format(&c->ssh_dir, "%s/ssh", c->data_dir);
    if (rc == 0)
        rc = derive_key(&c->client_key, c->ssh_dir, "client_key");
    if (rc == 0)
        rc = derive_key(&c->host_key, c->ssh_dir, "host_key");
    if (rc == 0)
        rc = set_format(&c->authorized_keys, "%s/authorized_keys", c->ssh_dir);
    if (rc == 0)
        rc = set_format(&c->known_hosts, "%s/known_hosts", c->ssh_dir);
    size_t stem = strlen(c->socket);
    if (stem > 5 && strcmp(c->socket + stem - 5, ".sock") == 0)
        stem -= 5;
    if (rc == 0)
        rc = set_format(&c->http_socket, "%.*s.http", (int)stem, c->socket);
    if (rc == 0)
        rc = set_format(&c->founding, "%s/founding", c->data_dir);
    return rc;
}

static int finish(struct loader *l)
{
    struct config *c = l->config;
    const char *file = c->file != NULL ? c->file : "configuration";
    const char *missing = c->name == NULL      ? "[node] name"
                          : c->id == 0         ? "[node] id"
                          : c->cluster_id == 0 ? "[cluster] id"
                                               : NULL;
    if (missing != NULL) {
        snprintf(l->why, sizeof l->why, "%s: %s is missing; kvnode init writes a complete file", file,
                 missing);
        return -EINVAL;
    }
    int rc = take_late_defaults(l);
    if (rc == 0)
        rc = derive(c);
    if (rc == 0)
        rc = config_peers_finish(c, l->why, sizeof l->why);
    if (rc != 0)
        return rc;
    if (c->heartbeat_ms * 3 > c->election_ms) {
        snprintf(l->why, sizeof l->why,
                 "%s: [raft] heartbeat_ms = %u is over a third of election_ms = %u; a tenth is usual", file,
                 c->heartbeat_ms, c->election_ms);
        return -EINVAL;
    }
    char peer_socket[CONFIG_SOCKET_PATH_MAX + 1];
    if (strlen(c->socket) > CONFIG_SOCKET_PATH_MAX) {
        snprintf(l->why, sizeof l->why,
                 "%s: [node] socket is longer than a socket's path can be (%d bytes): %.200s", file,
                 CONFIG_SOCKET_PATH_MAX, c->socket);
        return -EINVAL;
    }
    if (c->http_host[0] != '\0' && strlen(c->http_socket) > CONFIG_SOCKET_PATH_MAX) {
        snprintf(l->why, sizeof l->why,
                 "%s: the socket for HTTP would have a longer path than a socket can have (%d bytes): %.200s",
                 file, CONFIG_SOCKET_PATH_MAX, c->http_socket);
        return -EINVAL;
    }
    if (c->http_host[0] != '\0' && !config_is_loopback(c->http_host) &&
        (c->http_token_file[0] == '\0' || !c->http_allow_plain)) {
        snprintf(l->why, sizeof l->why,
                 "%s: [http] listen = %.100s:%u is no address of loopback, so it needs token_file = PATH, as "
                 "nobody can say who comes from another machine, and allow_plain = yes, as tokens and values "
                 "then go over the network in the clear. A reverse proxy on this machine needs neither and "
                 "has TLS",
                 file, c->http_host, c->http_port);
        return -EINVAL;
    }
    if (config_peer_socket(c, peer_socket) != 0) {
        snprintf(
            l->why, sizeof l->why,
            "%s: the peer socket in %.200s would be longer than a socket's path can be (%d bytes); use a "
            "shorter [node] data or set RUNTIME_DIRECTORY",
            file, c->run_dir, CONFIG_SOCKET_PATH_MAX);
        return -EINVAL;
    }
    return 0;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n_peers; i++)
        config_peer_deinit(&c->peers[i]);
    free(c->peers);
    for (size_t i = 0; c->sources != NULL && i < config_n_settings; i++) {
        free(c->sources[i].value);
        free(c->sources[i].source);
    }
    free(c->sources);
    char *const owned[] = {c->file,         c->name,        c->data_dir,        c->socket,
                           c->socket_group, c->listen_host, c->ssh_user,        c->program,
                           c->run_dir,      c->ssh_dir,     c->client_key,      c->host_key,
                           c->founding,     c->known_hosts, c->authorized_keys, c->http_host,
                           c->http_hosts,   c->http_socket, c->http_token_file};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    free(c);
}

int config_parse(const char *text, size_t len, const char *file, const struct config_request *request,
                 struct config **config_out, char *message_out, size_t message_size)
{
    struct loader l = {.config = calloc(1, sizeof *l.config)};
    const struct config_file_callbacks callbacks = {
        .arg = &l, .on_section = on_section, .on_value = on_value};
    int rc = -ENOMEM;
    if (l.config == NULL)
        goto out;
    l.config->sources = calloc(config_n_settings, sizeof *l.config->sources);
    if (l.config->sources == NULL)
        goto out;
    if (file != NULL && config_set_string(&l.config->file, file) != 0)
        goto out;
    rc = take_defaults(&l);
    if (rc == 0)
        rc = config_file_parse(text, len, file != NULL ? file : "-", &callbacks, l.why, sizeof l.why);
    if (rc == 0)
        rc = take_variables(&l);
    for (size_t i = 0; rc == 0 && i < request->n_flags; i++)
        rc = take_flag(&l, request->flags[i]);
    if (rc == 0)
        rc = finish(&l);
out:
    if (rc != 0) {
        snprintf(message_out, message_size, "%s", l.why[0] != '\0' ? l.why : strerror(-rc));
        config_free(l.config);
        return rc;
    }
    *config_out = l.config;
    return 0;
}

static int read_file(const char *path, char **text_out, size_t *len_out)
{
    enum { MAX = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *text = malloc(MAX);
    size_t len = 0;
    int rc = text == NULL ? -ENOMEM : 0;
    while (rc == 0) {
        ssize_t n = read(fd, text + len, MAX - len);
        if (n < 0 && errno != EINTR)
            rc = -errno;
        else if (n == 0)
            break;
        else if (n > 0)
            len += (size_t)n;
        if (len == MAX)
            rc = -EFBIG;
    }
    close(fd);
    if (rc != 0)
        free(text);
    else {
        *text_out = text;
        *len_out = len;
    }
    return rc;
}

/* The configuration that the request means: a path in out. */
static int find_file(const struct config_request *request, char *out, size_t size, char *message_out,
                     size_t message_size)
{
    const char *file = request->file != NULL ? request->file : getenv("KVNODE_CONFIG");
    const char *name = request->name != NULL ? request->name : getenv("KVNODE_NODE");
    char dir[PATH_MAX - CONFIG_NAME_MAX - 8], pattern[PATH_MAX];
    if (file != NULL) {
        if ((size_t)snprintf(out, size, "%s", file) < size)
            return 0;
        snprintf(message_out, message_size, "the configuration file's path is too long");
        return -ENAMETOOLONG;
    }
    int rc = config_dir(dir, sizeof dir);
    if (rc != 0) {
        snprintf(message_out, message_size, "no HOME, so no configuration folder; use -c FILE");
        return rc;
    }
    if (name != NULL) {
        if (!identity_peer_name_valid(name)) {
            snprintf(message_out, message_size, "%.60s is no node's name; use -c FILE for a path", name);
            return -EINVAL;
        }
        snprintf(out, size, "%s/%s.conf", dir, name);
        return 0;
    }
    snprintf(pattern, sizeof pattern, "%s/*.conf", dir);
    glob_t found;
    int matched = glob(pattern, 0, NULL, &found);
    if (matched == 0 && found.gl_pathc == 1) {
        snprintf(out, size, "%s", found.gl_pathv[0]);
    } else if (matched == 0) {
        snprintf(message_out, message_size, "%zu nodes are configured in %s; choose with -n NAME",
                 found.gl_pathc, dir);
        rc = -EINVAL;
    } else {
        snprintf(message_out, message_size,
                 "no configuration in %s; kvnode init makes one, -c FILE names one", dir);
        rc = -ENOENT;
    }
    globfree(&found);
    return rc;
}

int config_load(const struct config_request *request, struct config **config_out, char *message_out,
                size_t message_size)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t len = 0;
    int rc = find_file(request, path, sizeof path, message_out, message_size);
    if (rc != 0)
        return rc;
    rc = read_file(path, &text, &len);
    if (rc != 0) {
        snprintf(message_out, message_size, "%s: %s%s", path, strerror(-rc),
                 rc == -ENOENT ? "; kvnode init makes a node" : "");
        return rc;
    }
    rc = config_parse(text, len, path, request, config_out, message_out, message_size);
    free(text);
    return rc;
}
