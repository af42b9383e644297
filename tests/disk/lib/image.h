/* What a disk holds: files and directories twice, as programs see them and as a
 * power cut leaves them. No I/O; one thread.
 *
 * A power cut forgets, of each file, the writes and changes of length since its
 * last fsync, and of each directory the names that came and went since the last
 * fsync of that directory. That is harsher than ext4, where the fsync of any file
 * takes along all earlier changes of names; it is what fsync(2) promises. A
 * rename is one change, also between directories: both names or none. An fsync
 * of a directory takes along the earlier changes that those of its own rest on.
 * Modes, owners and times are not forgotten.
 *
 * A torn power cut leaves some of it, by chance: of each file nothing, all, the
 * writes up to a moment with the last one cut into 512-byte sectors, or some
 * sectors of each write; of the names, the changes up to a moment. A write
 * behind a truncation survives only if the truncation did, as the blocks' owner
 * is journaled. Bytes of a gap are zeros. */
#ifndef KVFS_TESTS_DISK_IMAGE_H
#define KVFS_TESTS_DISK_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define IMAGE_SECTOR 512
#define IMAGE_NAME_MAX 255

struct image;
struct image_inode;

struct image_bytes {
    uint8_t *data; /* owned */
    size_t len, cap;
};

struct image_entry {
    char name[IMAGE_NAME_MAX + 1];
    struct image_inode *inode; /* a reference */
};

struct image_entries {
    struct image_entry *list; /* owned */
    size_t n, cap;
};

/* A write, or with data NULL a new length. */
struct image_change {
    struct image_change *next;
    uint64_t offset;
    size_t len;
    uint8_t *data; /* owned */
};

struct image_inode {
    struct image_inode *next; /* of all */
    struct image *image;
    uint64_t number, refs; /* names, noted changes of names, and who holds it through image_ref() */
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime, ctime;
    char name[IMAGE_NAME_MAX + 1]; /* the last one it was given */
    char *target;                  /* owned; of a symbolic link */
    struct image_bytes now, kept;
    struct image_change *changes, **changes_end; /* between kept and now */
    struct image_entries now_entries, kept_entries;
};

/* One name that gets an inode, or loses it (NULL). */
struct image_naming {
    struct image_inode *dir;
    char name[IMAGE_NAME_MAX + 1];
    struct image_inode *inode;
};

struct image *image_new(uint64_t seed);
void image_free(struct image *im);
struct image_inode *image_root(struct image *im);
/* Bytes of all files that have a name: one that is removed gives its room back at
 * once, as file systems see to when they are full, although the removal may yet be forgotten. */
uint64_t image_used(const struct image *im);

/* A new inode with one reference, the caller's. */
struct image_inode *image_inode_new(struct image *im, mode_t mode, uid_t uid, gid_t gid);
void image_ref(struct image_inode *in, uint64_t n);
void image_unref(struct image_inode *in, uint64_t n); /* the last one frees it */

struct image_inode *image_find(const struct image_inode *dir, const char *name);
/* All n (1 or 2) at once. */
void image_name(struct image *im, const struct image_naming *namings, size_t n);
void image_write(struct image_inode *in, uint64_t offset, const void *data, size_t len);
void image_resize(struct image_inode *in, uint64_t len);

/* What fsync does: a file's bytes, or a directory's names, are kept from now on. */
void image_sync(struct image_inode *in);
/* What a failed fsync does: programs go on seeing what was written, but no later
 * fsync writes it any more. */
void image_sync_fails(struct image_inode *in);
void image_sync_all(struct image *im);

/* The power goes. What programs see is then what was kept; numbers of changes
 * that were forgotten, and of those that a torn cut kept, are added up. */
void image_cut(struct image *im, bool torn, uint64_t *forgotten, uint64_t *torn_kept);

#endif
