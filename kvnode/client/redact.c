/* What of an event a client that is not trusted may see: of names in directories that he
 * could list, and attributes in those that he could search, or of what he has open. His
 * own commands' events he sees whole: he has their results as well. */
#include "kvnode/client/client_conn.h"
#include "sync/base/error.h"

enum { SEES_NAMES = 1, SEES_ATTRIBUTES = 2 };

/* One command may change a whole directory: its names share the answer. */
static unsigned sight(struct client_conn *c, const struct event *e, uint64_t directory)
{
    const struct store *s = c->owner->group->store;

    if (directory == 0) /* of the root itself */
        return SEES_NAMES | SEES_ATTRIBUTES;
    if (c->sight.revision != e->revision || c->sight.directory != directory) {
        c->sight.revision = e->revision;
        c->sight.directory = directory;
        c->sight.mask = 0;
        if (store_reach(s, &c->who, directory) == KV_OK) {
            if (store_access(s, &c->who, directory, 5) == KV_OK)
                c->sight.mask |= SEES_NAMES;
            if (store_access(s, &c->who, directory, 1) == KV_OK)
                c->sight.mask |= SEES_ATTRIBUTES;
        }
    }
    return c->sight.mask;
}

void client_redact(void *conn, struct event *e)
{
    struct client_conn *c = conn;
    uint32_t owner;
    unsigned seen;

    if (e->kind == EVENT_NOTHING ||
        (e->session != 0 && store_session_owner(c->owner->group->store, e->session, &owner) == KV_OK &&
         owner == c->who.uid))
        return;
    seen = sight(c, e, e->parent);
    if ((seen & SEES_NAMES) == 0)
        e->name_len = 0;
    if (e->new_parent != 0) {
        seen = sight(c, e, e->new_parent);
        if ((seen & SEES_NAMES) == 0)
            e->new_name_len = 0;
    }
    if ((seen & SEES_ATTRIBUTES) == 0 && !client_has_open(c, e->ino, 0)) {
        e->attr = (struct attr){.ino = e->attr.ino, .nlink = e->attr.nlink};
        e->base_revision = 0;
    }
}
