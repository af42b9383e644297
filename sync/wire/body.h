/* The bodies of requests and answers: a struct for each of those in message.h, and the one place where they
 * are encoded and decoded. Strings of what was decoded borrow from its bytes. */
#ifndef KVFS_SYNC_WIRE_BODY_H
#define KVFS_SYNC_WIRE_BODY_H

#include "sync/wire/layout.h"
#include "sync/wire/message.h"

struct hello_request {
    struct bytes magic;
    uint8_t kind; /* enum client_kind */
    struct bytes name;
    uint64_t after;
    bool has_protocol;
    uint16_t protocol;
};

struct hello_answer {
    char name[COMMAND_NODE_MAX + 1];
    uint64_t cluster_id, applied;
    uint32_t part_size;
    uint64_t value_limit;
    uint8_t trusted;
    uint16_t protocol;
    uint16_t level;
};

struct write_request {
    uint8_t has_owner;
    uint32_t uid, gid;
    struct bytes command; /* empty: the caller puts it behind (command_encode()) */
};

struct name_request { /* LOOKUP */
    uint8_t at;
    uint64_t parent;
    struct bytes name;
};

struct inode_request { /* GETATTR, READLINK, LISTXATTR */
    uint8_t at;
    uint64_t ino;
};

struct read_request {
    uint8_t at;
    uint64_t ino, offset;
    uint32_t length;
};

struct value_answer { /* READ, GET */
    struct attr attr;
    struct bytes data; /* the last field: see body_string_end() */
};

/* An entry of a directory. */
struct readdir_row {
    uint64_t cookie; /* for what follows */
    struct bytes name;
    struct attr attr;
};

void readdir_row_encode(struct buffer *b, const struct readdir_row *r, uint16_t protocol);
void readdir_row_decode(struct cursor *c, struct readdir_row *r_out);

/* A name that has a history. */
struct names_row {
    struct bytes name;
    uint64_t version; /* the last one */
    uint8_t deleted;
};

void names_row_encode(struct buffer *b, const struct names_row *r);
void names_row_decode(struct cursor *c, struct names_row *r_out);

struct readdir_request {
    uint8_t at;
    uint64_t ino, cookie;
    uint32_t n;
};

struct readdir_answer {
    uint8_t eof;
    struct rows rows; /* struct readdir_row */
};

struct open_request {
    uint8_t at;
    uint64_t ino;
    uint8_t access;
    bool has_uid;
    uint32_t uid;
};

struct statfs_answer {
    uint64_t keys, bytes, max_keys, max_bytes;
};

struct path_request { /* RESOLVE */
    uint8_t at;
    struct bytes path;
};

struct resolve_answer {
    struct attr attr;
    uint64_t parent;
    struct bytes name;
};

struct get_request {
    uint8_t at;
    struct bytes path;
    uint64_t offset;
    uint32_t length;
    uint64_t content_revision;
};

struct history_request {
    uint64_t directory;
    struct bytes name;
    uint64_t before;
    uint32_t n;
};

struct locks_request {
    uint8_t at;
    uint64_t ino;
    uint8_t all;
};

struct held_request {
    uint8_t at;
    uint64_t ino, session;
};

struct held_answer {
    uint64_t fence, since_ns;
    uint8_t exclusive;
    struct bytes client, path;
};

struct page_answer { /* HISTORY: struct version_row; NAMES: struct names_row; LOCKS: struct lock_row */
    uint8_t more;
    struct rows rows;
    bool has_labels; /* HISTORY */
    struct bytes labels;
};

struct version_request {
    uint64_t directory;
    struct bytes name;
    uint64_t version, offset;
    uint32_t length;
};

struct version_answer {
    struct version_row row;
    struct bytes data;
    uint16_t mode;
    uint32_t uid, gid;
};

struct names_request {
    uint64_t directory;
    struct bytes after;
    uint32_t n;
};

struct log_request {
    uint64_t after;
    uint32_t n;
    bool has_cursor;
    struct bytes cursor;
};

#define LOG_CURSOR_MAX 512 /* of any node: those of this version are shorter */

struct log_answer {
    uint8_t more;
    struct rows rows; /* struct log_row */
    struct bytes cursor;
    uint64_t gap_after, gap_until;
    bool has_labels;
    struct bytes labels;
};

struct reserve_request {
    uint64_t held, least, wanted;
};

struct invalidated_request {
    uint64_t number;
};

struct close_request {
    uint64_t ino;
};

struct subscribe_request {
    uint64_t after;
    bool has_sparse;
    uint8_t sparse;
};

struct revision_answer { /* BARRIER: applied; SUBSCRIBE: from */
    uint64_t revision;
};

struct json_body { /* a request ADMIN; answers of it, STATUS and SETTINGS */
    struct bytes json;
};

struct reserve_answer {
    uint64_t granted;
};

struct xattr_request { /* GETXATTR */
    uint8_t at;
    uint64_t ino;
    struct bytes name;
};

struct xattr_answer {
    struct bytes value; /* the last field: see body_string_end() */
};

struct xattr_names_answer { /* LISTXATTR */
    struct bytes names;     /* the last field: see body_string_end() */
};

struct version_xattrs_request {
    uint64_t directory;
    struct bytes name;
    uint64_t version;
};

struct xattrs_answer {
    struct bytes xattrs;
};

struct link_answer {     /* READLINK */
    struct bytes target; /* the last field: see body_string_end() */
};

/* The member with the name of the type; those that have none here are empty. */
union request_body {
    uint8_t at; /* of those that begin with it */
    struct hello_request hello;
    struct write_request write;
    struct name_request lookup;
    struct inode_request getattr, readlink, listxattr;
    struct read_request read;
    struct readdir_request readdir;
    struct open_request open;
    struct close_request close;
    struct path_request resolve;
    struct get_request get;
    struct history_request history;
    struct version_request version;
    struct names_request names;
    struct log_request log;
    struct subscribe_request subscribe;
    struct json_body admin;
    struct reserve_request reserve;
    struct xattr_request getxattr;
    struct version_xattrs_request version_xattrs;
    struct locks_request locks;
    struct invalidated_request invalidated;
    struct held_request held;
};

union answer_body {
    struct hello_answer hello;
    struct command_result write;
    struct revision_answer barrier, subscribe;
    struct attr lookup, getattr, open;
    struct link_answer readlink;
    struct value_answer read, get;
    struct readdir_answer readdir;
    struct statfs_answer statfs;
    struct resolve_answer resolve;
    struct page_answer history, names, locks;
    struct version_answer version;
    struct log_answer log;
    struct json_body status, settings, admin;
    struct reserve_answer reserve;
    struct xattr_answer getxattr;
    struct xattr_names_answer listxattr;
    struct xattrs_answer version_xattrs;
    struct held_answer held;
};

/* Of each type of request; NULL: there is no such type. For tests; others use the functions below. */
struct body {
    const char *name; /* LOOKUP */
    const struct layout *request, *answer;
};
const struct body *body_of(uint8_t type);

/* Of types that there are. body: NULL is as one that has only zeros. */
void body_encode_request(struct buffer *b, uint8_t type, const union request_body *body);
/* In the form of a protocol: 1…MESSAGE_PROTOCOL. */
void body_encode_answer(struct buffer *b, uint8_t type, const union answer_body *body, uint16_t protocol);
/* The last string was encoded empty, and ended at `end`; what was appended since is what is in it. So a value
 * need not be copied. */
void body_string_end(struct buffer *b, size_t end);

/* The whole of it. KV_OK; KV_E_PROTOCOL: malformed; KV_E_NOTSUP: there is no such type. */
int body_decode_request(uint8_t type, const void *data, size_t len, union request_body *body_out);
/* What follows is ignored: newer nodes may say more. False: malformed. */
bool body_decode_answer(uint8_t type, struct cursor *c, union answer_body *body_out);

#endif
