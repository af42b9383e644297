/* The store's side of the journal: noting changes. All accept j NULL (nothing is
 * noted). A failed allocation is sticky: journal_failed(). */
#ifndef KVFS_KVNODE_STATE_JOURNAL_NOTE_H
#define KVFS_KVNODE_STATE_JOURNAL_NOTE_H

#include "kvnode/state/journal.h"
#include "kvnode/state/store_internal.h"

/* Whose rows it is about: once, right behind the making of both. */
void journal_store(struct journal *j, const struct store *s);
bool journal_failed(const struct journal *j);
void journal_command(struct journal *j);

/* Rows written as of the next seal. `gone`: the row is deleted, the struct freed after the call. */
void journal_inode(struct journal *j, struct inode *in);
void journal_inode_gone(struct journal *j, struct inode *in);
void journal_entry(struct journal *j, struct dentry *d);
void journal_entry_gone(struct journal *j, struct dentry *d);
void journal_session(struct journal *j, struct session *ss);
void journal_session_gone(struct journal *j, struct session *ss);
/* A part of len bytes was added. Those of an upload that ends before the next seal are never written. */
void journal_upload(struct journal *j, struct upload *up, size_t len);
void journal_upload_gone(struct journal *j, struct upload *up);

/* Rows written one by one, in order. value: its content, NULL for none; again: it and xattrs are those of
 * the row right before. */
void journal_history(struct journal *j, const struct history_row *row, const struct value *value,
                     const struct xattrs *xattrs, bool again);
/* Deletes the rows of a name from this revision on. */
void journal_history_gone(struct journal *j, uint64_t directory, const uint8_t *name, uint8_t name_len,
                          uint64_t revision);
/* Deletes the rows of a name up to this revision, and the chunks that nothing else uses. */
void journal_history_drop(struct journal *j, uint64_t directory, const uint8_t *name, uint8_t name_len,
                          uint64_t revision);
void journal_setting(struct journal *j, const char *name, const char *value); /* NULL: the default */
void journal_lock(struct journal *j, const struct lock_row *row);
void journal_lock_gone(struct journal *j, const struct lock_row *row);
void journal_fence(struct journal *j, const struct fence_row *row);
void journal_fence_gone(struct journal *j, uint64_t ino);
/* What no history uses, and nothing else any more, is not needed. */
void journal_chunk_gone(struct journal *j, struct chunk *c);
/* Chunks of old that are not in now, and that no history uses, are not needed any more. */
void journal_chunks_gone(struct journal *j, const struct value *old, const struct value *now);

#endif
