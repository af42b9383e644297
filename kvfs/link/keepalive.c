#include "kvfs/link/keepalive.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kvfs/link/hub.h"
#include "kvfs/link/uplink_internal.h"
#include "sync/base/clock.h"

#define INTERVAL_MIN_MS 1000
#define TIMES 4 /* in the time in which the session would end: some may be late, or lost with a node */

uint64_t keepalive_interval_ms(uint64_t session_timeout_ms)
{
    uint64_t ms = session_timeout_ms / TIMES;

    if (session_timeout_ms == 0 || ms > KEEPALIVE_MS)
        return KEEPALIVE_MS;
    return ms > INTERVAL_MIN_MS ? ms : INTERVAL_MIN_MS;
}

uint64_t uplink_keepalive_ms(const struct uplink *u)
{
    uint64_t ms = keepalive_interval_ms(u->session_timeout_ms);

    return u->leased && ms > LEASE_KEEPALIVE_MS ? LEASE_KEEPALIVE_MS : ms;
}

/* As settings are written: 10s, 5min, 2h, 1d. */
static uint64_t parse_time(const char *text)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits = strspn(text, "0123456789"), i;

    for (i = 0; digits > 0 && digits < 10 && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(text + digits, units[i].name) == 0)
            return strtoul(text, NULL, 10) * units[i].ms;
    }
    return 0;
}

uint64_t keepalive_parse(const void *json, size_t len)
{
    json_t *settings = json_loadb(json, len, 0, NULL);
    const char *value =
        json_string_value(json_object_get(json_object_get(settings, "session_timeout"), "value"));
    uint64_t ms = value != NULL ? parse_time(value) : 0;

    json_decref(settings);
    return ms;
}

static void on_settings(struct call *call, int code, const union answer_body *answer)
{
    struct uplink *u = &call->hub->uplink;
    uint64_t ms = code == 0 ? keepalive_parse(answer->admin.json.data, answer->admin.json.len) : 0, due;

    call_end(call);
    if (ms == 0)
        return;
    u->session_timeout_ms = ms;
    due = clock_boot_ms() + keepalive_interval_ms(ms);
    if (due < u->keepalive_ms)
        u->keepalive_ms = due;
}

void keepalive_ask(struct hub *hub)
{
    hub->uplink.settings_of = 0;
    uplink_wake(hub);
}

void keepalive_tick(struct hub *hub, uint64_t now_ms)
{
    struct uplink *u = &hub->uplink;
    struct command_body body = {0};
    struct call *call;

    if (u->client == NULL || u->broken || u->session == 0)
        return;
    if (u->settings_of != u->connections && (call = call_begin(hub, NULL, CALL_PLAIN)) != NULL) {
        u->settings_of = u->connections;
        call->once = true;
        uplink_send(call, MESSAGE_SETTINGS, NULL, on_settings);
    }
    if (now_ms < u->keepalive_ms)
        return;
    u->keepalive_ms = now_ms + uplink_keepalive_ms(u);
    call = call_begin(hub, NULL, CALL_PLAIN);
    if (call != NULL)
        uplink_write(call, COMMAND_KEEPALIVE, &body, uplink_on_posted);
}
