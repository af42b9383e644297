/* Texts to values. Why one table: the file, the variables, the flags, the error
 * messages and `kvnode config` all walk it, so none of them can forget a name. */
#include "kvnode/config/config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/ssh/identity.h"

#define AT(member) offsetof(struct config, member)
const struct setting config_settings[] = {
    {"node", "name", KIND_NAME, AT(name), 0, 0, NULL},
    {"node", "id", KIND_U16, AT(id), 1, 65535, NULL},
    {"node", "data", KIND_PATH, AT(data_dir), 0, 0, NULL},
    {"node", "socket", KIND_PATH, AT(socket), 0, 0, NULL},
    {"node", "socket_mode", KIND_MODE, AT(socket_mode), 0, 0777, "0600"},
    {"node", "socket_group", KIND_TEXT, AT(socket_group), 0, 0, ""},
    {"node", "log_level", KIND_LEVEL, AT(log_level), 0, 0, "info"},
    {"cluster", "id", KIND_HEX, AT(cluster_id), 1, UINT64_MAX, NULL},
    {"ssh", "listen", KIND_ADDRESS, AT(listen_host), 0, 0, "127.0.0.1:7022"},
    {"ssh", "sshd", KIND_SSHD, AT(private_sshd), 0, 0, "private"},
    {"ssh", "user", KIND_TEXT, AT(ssh_user), 0, 0, NULL},
    {"raft", "election_ms", KIND_U32, AT(election_ms), 50, 60000, "500"},
    {"raft", "heartbeat_ms", KIND_U32, AT(heartbeat_ms), 5, 10000, "50"},
    {"storage", "flush_ms", KIND_U32, AT(flush_ms), 1, 60000, "200"},
    {"storage", "flush_commands", KIND_U32, AT(flush_commands), 1, 100000, "8000"},
    {"storage", "log_keep_entries", KIND_U64, AT(log_keep_entries), 2048, 100000000, "100000"},
    {"storage", "log_keep_bytes", KIND_U64, AT(log_keep_bytes), 1 << 20, UINT64_C(1) << 40, "64MiB"},
    {"storage", "scrub_interval_s", KIND_U32, AT(scrub_interval_s), 0, 31536000, "86400"},
    {"storage", "scrub_bytes_per_s", KIND_U64, AT(scrub_bytes_per_s), 1 << 16, UINT64_C(1) << 40, "8MiB"},
    {"http", "listen", KIND_HTTP, AT(http_host), 0, 0, "off"},
    {"http", "token_file", KIND_FILE, AT(http_token_file), 0, 0, ""},
    {"http", "allow_plain", KIND_YES, AT(http_allow_plain), 0, 0, "no"},
    {"http", "hosts", KIND_HOSTS, AT(http_hosts), 0, 0, ""},
};
const size_t config_n_settings = sizeof config_settings / sizeof config_settings[0];

int config_set_string(char **field, const char *value)
{
    char *copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

int config_split_address(const char *text, char *host_out, size_t size, uint16_t *port_out)
{
    const char *host = text, *colon;
    size_t len;
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (end == NULL || end[1] != ':')
            return -EINVAL;
        host = text + 1;
        len = (size_t)(end - host);
        colon = end + 1;
    } else {
        colon = strrchr(text, ':');
        if (colon == NULL || memchr(text, ':', (size_t)(colon - text)) != NULL)
            return -EINVAL;
        len = (size_t)(colon - text);
    }
    if (len == 0 || len >= size)
        return -EINVAL;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)host[i]) && strchr(".-_:", host[i]) == NULL)
            return -EINVAL;
    char *end;
    if (!isdigit((unsigned char)colon[1]))
        return -EINVAL;
    errno = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || errno != 0 || port < 1 || port > 65535)
        return -EINVAL;
    memcpy(host_out, host, len);
    host_out[len] = '\0';
    *port_out = (uint16_t)port;
    return 0;
}

bool config_read_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    end += strspn(end, " ");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].suffix) == 0 && n <= UINT64_MAX >> units[i].shift) {
            *out = (uint64_t)n << units[i].shift;
            return *out >= min && *out <= max;
        }
    return false;
}

static bool is_number(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool config_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int convert(const struct setting *s, const char *value, struct config *c, char *allowed, size_t size)
{
    void *field = (char *)c + s->offset;
    uint64_t n;
    char host[256];
    char *end;
    switch (s->kind) {
    case KIND_NAME:
        snprintf(allowed, size, "1 to %d of A-Z a-z 0-9 . _ -, not beginning with . or -", CONFIG_NAME_MAX);
        return identity_peer_name_valid(value) ? config_set_string(field, value) : -EINVAL;
    case KIND_U16:
    case KIND_U32:
    case KIND_U64:
        snprintf(allowed, size, "a number from %llu to %llu", (unsigned long long)s->min,
                 (unsigned long long)s->max);
        if (!config_read_number(value, s->min, s->max, &n))
            return -EINVAL;
        if (s->kind == KIND_U16)
            *(uint16_t *)field = (uint16_t)n;
        else if (s->kind == KIND_U32)
            *(uint32_t *)field = (uint32_t)n;
        else
            *(uint64_t *)field = n;
        return 0;
    case KIND_PATH:
        snprintf(allowed, size, "an absolute path");
        return value[0] == '/' ? config_set_string(field, value) : -EINVAL;
    case KIND_MODE:
        snprintf(allowed, size, "an octal mode such as 0600 or 0660");
        errno = 0;
        n = strtoul(value, &end, 8);
        if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0 || n > s->max)
            return -EINVAL;
        *(mode_t *)field = (mode_t)n;
        return 0;
    case KIND_TEXT:
        snprintf(allowed, size, "letters, digits and . _ - @");
        for (const char *p = value; *p != '\0'; p++)
            if (!isalnum((unsigned char)*p) && strchr("._-@", *p) == NULL)
                return -EINVAL;
        return config_set_string(field, value);
    case KIND_LEVEL:
        snprintf(allowed, size, "error, warn, info or debug");
        static const char *const levels[] = {"error", "warn", "info", "debug"};
        for (size_t i = 0; i < 4; i++)
            if (strcmp(value, levels[i]) == 0) {
                *(enum log_level *)field = (enum log_level)i;
                return 0;
            }
        return -EINVAL;
    case KIND_HEX:
        snprintf(allowed, size, "16 hexadecimal digits, not all 0, the same on all nodes");
        if (strlen(value) != 16 || strspn(value, "0123456789abcdefABCDEF") != 16)
            return -EINVAL;
        *(uint64_t *)field = strtoull(value, NULL, 16);
        return *(uint64_t *)field != 0 ? 0 : -EINVAL;
    case KIND_ADDRESS:
        snprintf(allowed, size, "HOST:PORT or [IPV6]:PORT");
        if (config_split_address(value, host, sizeof host, &c->listen_port) != 0)
            return -EINVAL;
        return config_set_string(field, host);
    case KIND_HTTP:
        snprintf(allowed, size, "off, or ADDRESS:PORT with a number as its address, such as 127.0.0.1:7080");
        if (strcmp(value, "off") == 0)
            return config_set_string(field, "");
        if (config_split_address(value, host, sizeof host, &c->http_port) != 0 || !is_number(host))
            return -EINVAL;
        return config_set_string(field, host);
    case KIND_HOSTS:
        snprintf(allowed, size,
                 "names that a browser may call this node by, NAME[:PORT], with commas between");
        for (const char *p = value; *p != '\0'; p++)
            if (!isalnum((unsigned char)*p) && strchr(".-_:[],", *p) == NULL)
                return -EINVAL;
        return config_set_string(field, value);
    case KIND_FILE:
        snprintf(allowed, size, "an absolute path");
        return value[0] == '/' || value[0] == '\0' ? config_set_string(field, value) : -EINVAL;
    case KIND_YES:
        snprintf(allowed, size, "yes or no");
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return -EINVAL;
        *(bool *)field = value[0] == 'y';
        return 0;
    case KIND_SSHD:
        snprintf(allowed, size, "private or system");
        if (strcmp(value, "private") != 0 && strcmp(value, "system") != 0)
            return -EINVAL;
        *(bool *)field = value[0] == 'p';
        return 0;
    }
    return -EINVAL;
}

int config_set_value(struct config *c, const struct setting *s, const char *value, const char *source,
                     char *why, size_t size)
{
    char allowed[160] = "";
    struct config_source *at = &c->sources[s - config_settings];
    int rc = convert(s, value, c, allowed, sizeof allowed);
    if (rc == -EINVAL)
        snprintf(why, size, "[%s] %s = %.100s is not allowed; allowed: %s", s->section, s->name, value,
                 allowed);
    if (rc == 0)
        rc = config_set_string(&at->value, value);
    if (rc == 0)
        rc = config_set_string(&at->source, source);
    return rc;
}

const struct setting *config_find_setting(const char *section, const char *name)
{
    for (size_t i = 0; i < config_n_settings; i++)
        if (strcmp(config_settings[i].section, section) == 0 && strcmp(config_settings[i].name, name) == 0)
            return &config_settings[i];
    return NULL;
}

void config_list_names(const char *section, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < config_n_settings; i++) {
        if (strcmp(config_settings[i].section, section) != 0 || len >= size)
            continue;
        int n = snprintf(out + len, size - len, "%s%s", len == 0 ? "" : ", ", config_settings[i].name);
        len += n > 0 ? (size_t)n : 0;
    }
}

const char *config_source_of(const struct config *c, const struct setting *s)
{
    return c->sources[s - config_settings].source;
}

void config_each(const struct config *config, void *arg, config_emit *emit)
{
    for (size_t i = 0; i < config_n_settings; i++)
        emit(arg, config_settings[i].section, config_settings[i].name, config->sources[i].value,
             config->sources[i].source);
}
