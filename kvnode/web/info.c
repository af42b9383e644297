/* What the node says of itself: whether it lives, whether it is of use, and what `kvnode status --json` says.
 */
#include <stdlib.h>
#include <string.h>

#include "kvnode/group/group.h"
#include "kvnode/peer/members.h"
#include "kvnode/peer/self.h"
#include "kvnode/web/web_internal.h"
#include "sync/base/error.h"

void info_live(struct web_request *r)
{
    web_reply_text(r, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

/* Would a write be taken here? */
void info_ready(struct web_request *r)
{
    const struct self *self = r->web->owner.self;
    struct members members;
    const char *why = self_no_service(self);

    members_look(self, &members);
    if (why == NULL && self->stopping)
        why = "this node is stopping";
    if (why == NULL && !members.writable)
        why = "the cluster does not accept writes, as far as this node knows";
    if (why != NULL)
        web_fail_code(r, KV_E_UNAVAILABLE, why, false);
    else
        web_reply_text(r, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

static void on_status(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    struct MHD_Response *response;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    response = MHD_create_response_from_buffer(answer->status.json.len, (void *)answer->status.json.data,
                                               MHD_RESPMEM_MUST_COPY);
    if (response != NULL)
        MHD_add_response_header(response, "Content-Type", "application/json");
    web_reply(r, 200, response);
}

void info_status(struct web_request *r)
{
    web_ask(r, MESSAGE_STATUS, NULL, on_status);
}

/* The page; who asks for JSON gets what /v1/status has. */
void info_dashboard(struct web_request *r)
{
    const char *accept = web_header(r, "Accept");

    if (accept != NULL && strstr(accept, "application/json") != NULL && strstr(accept, "text/html") == NULL)
        info_status(r);
    else
        static_start(r);
}

static void on_members(void *arg, int code, const union answer_body *answer, const char *detail)
{
    struct web_request *r = arg;
    json_t *status;

    if (code != KV_OK) {
        web_fail_code(r, code, detail, false);
        return;
    }
    status = json_loadb((const char *)answer->status.json.data, answer->status.json.len, 0, NULL);
    web_reply_json(r, 200,
                   json_pack("{s:O, s:O}", "members", json_object_get(status, "members"), "leader",
                             json_object_get(status, "leader")));
    json_decref(status);
}

void info_members(struct web_request *r)
{
    web_ask(r, MESSAGE_STATUS, NULL, on_members);
}
