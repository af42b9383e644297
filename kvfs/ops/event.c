/* Changes made through this mount are already in the kernel's caches: it made
 * them itself, and what it cannot know (times, counts) it was told with a
 * timeout of zero. Everything else is invalidated, but only for inodes that the
 * kernel knows, and names only if it can hold a name that the change made wrong. */
#include "kvfs/ops/event.h"

#include "kvfs/file/publish.h"
#include "kvfs/link/keepalive.h"
#include "kvfs/ops/fs.h"
#include "sync/base/clock.h"

/* The directory's times and counts. */
static void directory_changed(struct fs *fs, uint64_t ino)
{
    struct kernel_inode *directory = kernel_inode_find(&fs->cache, ino);

    if (directory != NULL)
        notifier_inval(&fs->cache, directory, false);
}

/* What was asked for while there was no lease may be told when there is one, as it was before a change of
 * which no INVAL has told, or will. Of changes of this mount, too. */
static void names_changed(struct fs *fs, uint64_t ino)
{
    struct kernel_inode *directory = kernel_inode_find(&fs->cache, ino);

    if (directory == NULL)
        return;
    known_forget_names(&fs->cache, directory);
    known_forget_attr(directory);
}

/* What this mount may not see comes without names and attributes. */
static bool is_told(const struct event *e)
{
    return e->attr.type != 0;
}

/* Of a file that is known here it is one more name: it has changed, too. */
static void on_create(struct fs *fs, const struct event *e, struct kernel_inode *inode, bool own)
{
    if (inode != NULL && inode->file != NULL && is_told(e))
        file_learn(inode->file, &e->attr);
    if (own)
        return;
    directory_changed(fs, e->parent);
    names_appeared(&fs->cache, e->parent, e->name, e->name_len);
    if (inode != NULL)
        notifier_inval(&fs->cache, inode, false);
}

static void on_remove(struct fs *fs, const struct event *e, struct kernel_inode *inode, bool own)
{
    if (!own) {
        directory_changed(fs, e->parent);
        if (inode != NULL) {
            kernel_inode_moved(&fs->cache, inode);
            names_wrong(&fs->cache, e->parent, e->name, e->name_len);
            notifier_inval(&fs->cache, inode, false);
        }
    }
    if (inode != NULL && inode->file != NULL && e->attr.nlink > 0 && is_told(e))
        file_learn(inode->file, &e->attr);
    if (inode != NULL && e->attr.nlink == 0 && (is_told(e) || inode->file != NULL)) {
        struct attr attr = is_told(e) ? e->attr : inode->file->attr;

        attr.nlink = 0;
        removed_inode(&fs->files, inode, &attr);
    }
}

static void on_rename(struct fs *fs, const struct event *e, struct kernel_inode *inode, bool own)
{
    if (inode != NULL)
        kernel_inode_set_place(&fs->cache, inode, &e->attr, e->new_parent, e->new_name, e->new_name_len);
    if (own)
        return;
    directory_changed(fs, e->parent);
    directory_changed(fs, e->new_parent);
    names_appeared(&fs->cache, e->new_parent, e->new_name, e->new_name_len);
    if (inode != NULL) {
        kernel_inode_moved(&fs->cache, inode);
        names_wrong(&fs->cache, e->parent, e->name, e->name_len);
        if (e->attr.type == INODE_DIRECTORY && e->new_name_len > 0)
            submounts_moved(&fs->cache, inode, e->revision, e->parent, e->name, e->name_len);
        notifier_inval(&fs->cache, inode, false);
    }
}

static void on_content(struct fs *fs, const struct event *e, struct kernel_inode *inode, bool own)
{
    struct file *f = inode != NULL ? inode->file : NULL;
    bool expected;

    if (inode == NULL)
        return;
    /* One's own publication gives what the kernel shows already: every change
     * by others that came before it was invalidated, and the edits were shown
     * over it since. Unless that is not how it came about. */
    expected = own && f != NULL && publish_is_own(f, e) &&
               (f->attr.ino == 0 || f->attr.content_revision == e->base_revision);
    if (f != NULL && is_told(e))
        file_learn(f, &e->attr);
    if (expected && inode->told_revision == e->base_revision)
        inode->told_revision = e->attr.content_revision;
    if (!expected) {
        notifier_inval(&fs->cache, inode, true);
        if (f != NULL)
            f->fresh = false;
    }
    if (f != NULL)
        publish_landed(&fs->files, f, e);
}

static void on_attr(struct fs *fs, const struct event *e, struct kernel_inode *inode, bool own)
{
    if (inode == NULL)
        return;
    if (inode->file != NULL && is_told(e))
        file_learn(inode->file, &e->attr);
    if (!own)
        notifier_inval(&fs->cache, inode, false);
    if (inode->file != NULL)
        publish_landed(&fs->files, inode->file, e);
}

/* A setting was changed; nodes that do not say so leave it to the next HELLO. What a new
 * node's HELLO has told is newer than the events of before. */
static void on_setting(struct fs *fs, const struct event *e)
{
    struct client_node *node = &fs->hub.uplink.node;

    if (e->attr.size > 0 && e->revision > node->applied)
        node->value_limit = e->attr.size;
    keepalive_ask(&fs->hub);
}

static void lock_told(struct fs *fs, const struct event *e)
{
    if (e->new_parent != 0)
        lock_ended(&fs->files, e->new_parent, (int)e->base_revision);
    else
        lock_wanted(&fs->files, e->ino, e->base_revision);
}

void event_handle(struct fs *fs, const struct event *e)
{
    struct kernel_inode *inode = e->ino != 0 ? kernel_inode_find(&fs->cache, e->ino) : NULL;
    bool own = e->session != 0 && e->session == fs->hub.uplink.session;

    stamp_learn(&fs->hub.stamp, e->wall_ns, clock_boot_ns());
    if (inode != NULL)
        known_forget_attr(inode);
    switch (e->kind) {
    case EVENT_CREATE:
        names_changed(fs, e->parent);
        on_create(fs, e, inode, own);
        break;
    case EVENT_REMOVE:
        names_changed(fs, e->parent);
        on_remove(fs, e, inode, own);
        break;
    case EVENT_RENAME:
        names_changed(fs, e->parent);
        names_changed(fs, e->new_parent);
        on_rename(fs, e, inode, own);
        break;
    case EVENT_CONTENT:
        on_content(fs, e, inode, own);
        break;
    case EVENT_ATTR:
        on_attr(fs, e, inode, own);
        break;
    case EVENT_NOTHING:
        if (e->parent != 0 && e->parent == fs->hub.uplink.session)
            lock_told(fs, e);
        else if (e->op == COMMAND_SETTING)
            on_setting(fs, e);
        break;
    default:
        break;
    }
}
