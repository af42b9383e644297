/* A page of ours may load what is ours and nothing else, and no script that stands in the page itself. */
#include "kvnode/web/static.h"

#include <string.h>

#include "kvnode/web/web_internal.h"

#define POLICY "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

const struct static_file *static_find(const char *path)
{
    const struct static_file *f;

    for (f = static_files; f->path != NULL; f++)
        if (strcmp(f->path, path) == 0)
            return f;
    return NULL;
}

void static_start(struct web_request *r)
{
    const struct static_file *f = static_find(r->url->path);
    struct MHD_Response *response = NULL;

    if (f != NULL)
        response = MHD_create_response_from_buffer(f->len, (void *)f->data, MHD_RESPMEM_PERSISTENT);
    if (response != NULL) {
        MHD_add_response_header(response, "Content-Type", f->type);
        MHD_add_response_header(response, "Content-Security-Policy", POLICY);
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
        MHD_add_response_header(response, "Vary", "Accept");
    }
    web_reply(r, 200, response);
}
