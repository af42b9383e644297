/* History of names: which changes leave a row, and under which number.
 *
 * Content that is new to a name takes its next number; a change of attributes
 * adds a row under the number that the content has; a removal adds a tombstone
 * under the number that it ends. Two kinds of rows are provisional:
 *
 * - The row of a creation (and of changes of attributes right behind it), until
 *   the first publication: create and publish through one handle are one version.
 * - The tombstone of a name whose file was moved *aside*, to a name that keeps no
 *   history (vim: `mv f f~`, then a new f). If the name is taken again within
 *   ASIDE_MS of the cluster's time, the tombstone is taken back: the save shows
 *   as one new version, without a deletion between. Until then, and if nothing
 *   comes, the deletion is shown, because it is true. */
#include <stdlib.h>
#include <string.h>

#include "kvnode/state/journal_note.h"
#include "kvnode/state/store_internal.h"

bool history_note(struct apply *ap, struct dentry *d, struct inode *in, const struct note *note)
{
    struct store *s = ap->s;
    bool tombstone = note->kind == NOTE_TOMBSTONE;
    struct value v = inode_value(in);
    uint64_t digest;
    struct history_row row = {
        .directory = d->dir->history_id,
        .name = d->name,
        .name_len = d->name_len,
        .row =
            {
                .version = dentry_version(d),
                .revision = ap->index,
                .wall_ns = s->wall_ns,
                .size = tombstone ? 0 : in->size,
                .mode = in->mode,
                .uid = in->uid,
                .gid = in->gid,
                .type = in->type,
                .deleted = tombstone,
                .attributes_only = note->kind == NOTE_ATTRIBUTES,
                .op = ap->cmd->op,
                .author_uid = ap->cmd->uid,
            },
        .ino = in->ino,
        .child = in->type == INODE_DIRECTORY ? in->c.dir->history_id : 0,
        .mtime_ns = in->mtime_ns,
        .content_digest = tombstone ? 0 : in->content_digest,
        .xattr_size = tombstone ? 0 : xattrs_len(in->xattrs),
        .xattr_digest = tombstone ? 0 : xattrs_digest(in->xattrs),
        .restored = note->restored,
    };

    if ((d->flags & ENTRY_NO_HISTORY) != 0)
        return false;
    memcpy(row.row.author_node, ap->cmd->node, ap->cmd->node_len);
    if (ap->cmd->label_len > 0)
        memcpy(row.row.label, ap->cmd->label, ap->cmd->label_len);
    if (note->from != NULL) {
        row.from_directory = note->from->dir->history_id;
        row.from_name = note->from->name;
        row.from_len = note->from->name_len;
    }
    if (note->to != NULL) {
        row.to_directory = note->to->dir->history_id;
        row.to_name = note->to->name;
        row.to_len = note->to->name_len;
    }
    digest = history_row_digest(&row);
    d->history_digest += digest;
    d->flags |= ENTRY_HAS_ROWS;
    if ((in->flags & INODE_FRESH) != 0 && !tombstone)
        in->c.creation += digest;
    journal_history(s->journal, &row, tombstone ? NULL : &v, tombstone ? NULL : in->xattrs, note->again);
    if (note->aside_out != NULL)
        *note->aside_out = (struct aside){ap->index, s->elapsed_ms, digest};
    return true;
}

void history_next_version(struct dentry *d, struct inode *in)
{
    uint64_t version = 0;

    if (in->type != INODE_DIRECTORY && (d->flags & ENTRY_NO_HISTORY) == 0)
        version = ++d->last_version;
    if (d == in->names)
        in->version = version;
}

void history_end_creation(struct inode *in)
{
    if ((in->flags & INODE_FRESH) == 0)
        return;
    in->flags &= (uint8_t)~INODE_FRESH;
    in->c.one = NULL;
}

void history_replace_creation(struct apply *ap, struct dentry *d, struct inode *in)
{
    if ((d->flags & ENTRY_NO_HISTORY) == 0) {
        d->history_digest -= in->c.creation;
        journal_history_gone(ap->s->journal, d->dir->history_id, d->name, d->name_len, in->content_revision);
    }
    history_end_creation(in);
}

void history_settle_aside(struct apply *ap, struct dentry *d)
{
    const struct aside *aside = d->u.aside;

    if (ap->s->elapsed_ms - aside->ms <= ASIDE_MS) {
        d->history_digest -= aside->digest;
        journal_history_gone(ap->s->journal, d->dir->history_id, d->name, d->name_len, aside->revision);
    }
    free(d->u.aside);
    d->u.aside = NULL;
    d->flags &= (uint8_t)~ENTRY_ASIDE;
}
