/* The table of addresses. */
#include <stdio.h>
#include <string.h>

#include "kvnode/web/web_internal.h"

#define P(name) (1u << PARAM_##name)

static const struct route routes[] = {
    {"/kv/", "GET HEAD PUT POST PATCH DELETE",
     P(LOCAL) | P(TEXT) | P(VERSION) | P(HISTORY) | P(LIMIT) | P(AFTER) | P(RECURSIVE) | P(TTL) | P(AS_OF),
     kv_head, kv_start, kv_cancel, false},
    {"/livez", "GET HEAD", 0, NULL, info_live, NULL, true},
    {"/readyz", "GET HEAD", 0, NULL, info_ready, NULL, true},
    {"/metrics", "GET HEAD", 0, NULL, info_metrics, NULL, true},
    {"/v1/status", "GET HEAD", 0, NULL, info_status, NULL, true},
    {"/v1/members", "GET HEAD", 0, NULL, info_members, NULL, true},
    {"/v1/txn", "POST", 0, txn_head, txn_start, NULL, false},
    {"/v1/pulse", "GET HEAD", P(SINCE), NULL, pulse_start, NULL, true},
    {"/dashboard", "GET HEAD", 0, NULL, info_dashboard, NULL, true},
    {"/v1/events", "GET", P(PREFIX) | P(SINCE), NULL, events_start, events_cancel, false},
    {"/v1/log", "GET HEAD", P(SINCE) | P(AFTER) | P(LIMIT), NULL, info_log, NULL, false},
    {"/v1/locks", "GET HEAD", 0, NULL, info_locks, NULL, false},
};
/* Of all that is compiled in. */
static const struct route of_files = {"", "GET HEAD", 0, NULL, static_start, NULL, true};

const struct route *route_find(const char *path)
{
    size_t i;

    for (i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        size_t len = strlen(routes[i].path);
        bool below = routes[i].path[len - 1] == '/';

        if (below ? strncmp(path, routes[i].path, len) == 0 : strcmp(path, routes[i].path) == 0)
            return &routes[i];
    }
    return static_find(path) != NULL ? &of_files : NULL;
}

bool route_has(const struct route *route, const char *method)
{
    const char *at = strstr(route->methods, method);

    return at != NULL && (at == route->methods || at[-1] == ' ') &&
           (at[strlen(method)] == '\0' || at[strlen(method)] == ' ');
}

/* "GET, HEAD". */
static void list_methods(const char *methods, char *out, size_t size)
{
    size_t n = 0;

    for (; *methods != '\0' && n + 3 < size; methods++) {
        if (*methods == ' ')
            out[n++] = ',';
        out[n++] = *methods;
    }
    out[n] = '\0';
}

static void refuse_with(struct web_request *r, const char *methods, json_t *object)
{
    struct MHD_Response *response = web_json(object);
    char allow[80];

    list_methods(methods, allow, sizeof allow);
    if (response != NULL)
        MHD_add_response_header(response, "Allow", allow);
    web_reply(r, 405, response);
}

void route_refuse_method(struct web_request *r, const struct route *route)
{
    char allow[80], text[200];

    list_methods(route->methods, allow, sizeof allow);
    snprintf(text, sizeof text, "this address knows %s", allow);
    refuse_with(r, route->methods, json_pack("{s:s, s:i}", "error", text, "status", 405));
}

/* The raw value of a parameter, as it stands: "" if there is none. */
static void raw_param(const char *query, const char *name, char *out, size_t size)
{
    size_t len = strlen(name), n;

    out[0] = '\0';
    while (*query != '\0') {
        n = strcspn(query, "&");
        if (n > len && strncmp(query, name, len) == 0 && query[len] == '=' && n - len - 1 < size) {
            memcpy(out, query + len + 1, n - len - 1);
            out[n - len - 1] = '\0';
            return;
        }
        query += n + (query[n] == '&');
    }
}

/* For a line of a shell: what is safe without quoting. */
static bool is_plain(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%-._~/+,:@") ==
           strlen(text);
}

bool route_refuse_old(struct web_request *r, const char *raw)
{
    static const struct {
        const char *path, *methods, *curl;
        bool has_value;
    } old[] = {
        {"/set", "PUT", "curl -X PUT --data-binary", true},
        {"/update", "PUT", "curl -X PUT -H 'If-Match: *' --data-binary", true},
        {"/get", "GET", "curl", false},
        {"/delete", "DELETE", "curl -X DELETE", false},
    };
    size_t len = strcspn(raw, "?"), i;
    char key[400], value[400], ttl[40], line[1400];
    const char *host = web_header(r, "Host"), *query = raw[len] == '?' ? raw + len + 1 : "";

    for (i = 0; i < sizeof old / sizeof old[0]; i++)
        if (strlen(old[i].path) == len && strncmp(raw, old[i].path, len) == 0)
            break;
    if (i == sizeof old / sizeof old[0])
        return false;
    raw_param(query, "key", key, sizeof key);
    raw_param(query, "value", value, sizeof value);
    raw_param(query, "ttl", ttl, sizeof ttl);
    if (key[0] == '\0' || !is_plain(key))
        snprintf(key, sizeof key, "KEY");
    /* curl reads a file if the value begins with an @. */
    if (value[0] == '\0' || value[0] == '@' || value[0] == '-' || !is_plain(value) ||
        strchr(value, '%') != NULL)
        snprintf(value, sizeof value, "VALUE");
    if (!is_plain(ttl))
        ttl[0] = '\0';
    snprintf(line, sizeof line, "%s %s%s'http://%.200s/kv/%s%s%s'", old[i].curl,
             old[i].has_value ? value : "", old[i].has_value ? " " : "",
             host != NULL && is_plain(host) ? host : "localhost", key,
             ttl[0] != '\0' && old[i].has_value ? "?ttl=" : "", old[i].has_value ? ttl : "");
    refuse_with(r, old[i].methods,
                json_pack("{s:s, s:s, s:i}", "error",
                          old[i].has_value || i == 3
                              ? "a GET writes nothing, and keys stand in the address; nothing was "
                                "written"
                              : "keys stand in the address",
                          "try", line, "status", 405));
    return true;
}
