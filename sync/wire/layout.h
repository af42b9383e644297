/* What of a struct travels: a table of its fields, which one encoder and one decoder walk.
 *
 * The type of a member is its type on the wire (RFC 4251 §5): uintN_t and intN_t a number of that size,
 * `char[n]` a text that is kept with its NUL, a struct that has a layout itself what that says, and struct
 * bytes or a pointer with its length (name, name_len) a string. The tables stand beside the structs' other
 * functions: attr.c, command.c, message.c; those of the bodies of messages in body.c. */
#ifndef KVFS_SYNC_WIRE_LAYOUT_H
#define KVFS_SYNC_WIRE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "sync/base/buffer.h"

enum layout_kind {
    LAYOUT_U8 = 1,
    LAYOUT_U16 = 2,
    LAYOUT_U32 = 4,
    LAYOUT_U64 = 8, /* these are also their lengths */
    LAYOUT_TEXT,    /* string in a char[], with a NUL */
    LAYOUT_STRING,  /* string, borrowed from the cursor's bytes */
    LAYOUT_REST,    /* all that is left, borrowed; an encoder may put it behind */
    LAYOUT_STRUCT,  /* a struct in the struct */
    LAYOUT_ROWS,    /* struct rows: u32 count, then the rows as they are */
};

struct layout_field {
    const char *name; /* as in message.h */
    enum layout_kind kind;
    bool optional;           /* may be left out with all behind it, is zero then */
    uint16_t since;          /* protocol from which on it is there; decoded is the newest form */
    uint16_t at, len_at;     /* in the struct; len_at: of a string's length */
    uint16_t has_at;         /* of the bool that says whether an optional one is there; 0: is always put */
    uint32_t max;            /* TEXT, STRING: longest */
    const struct layout *of; /* STRUCT, ROWS: of each */
};

struct layout {
    const char *name; /* as in message.h; NULL: the fields stand there */
    const struct layout_field *fields;
    uint16_t n_fields;
    uint16_t size; /* of the struct; 0: nothing travels */
};

/* Several rows of one layout, encoded; borrowed. A decoder has seen that they are whole. */
struct rows {
    uint32_t count;
    struct bytes bytes;
};

/* To decode them one by one, by the functions of the row. */
struct cursor rows_cursor(const struct rows *r);

/* Sticky, as all of a buffer. */
void layout_encode(struct buffer *b, const struct layout *l, const void *values, uint16_t protocol);
/* Fills the whole struct. False: malformed; what it has got then means nothing. */
bool layout_decode(struct cursor *c, const struct layout *l, void *values_out);

/* For the tables. */
#define LAYOUT_MEMBER(type, member) (((struct type *)NULL)->member)
#define LAYOUT_KIND(type, member)                                                                            \
    _Generic(LAYOUT_MEMBER(type, member), uint8_t                                                            \
             : LAYOUT_U8, uint16_t                                                                           \
             : LAYOUT_U16, uint32_t                                                                          \
             : LAYOUT_U32, uint64_t                                                                          \
             : LAYOUT_U64, int64_t                                                                           \
             : LAYOUT_U64, char *                                                                            \
             : LAYOUT_TEXT)
/* A number or a text. */
#define FIELD(type, member)                                                                                  \
    .name = #member, .kind = LAYOUT_KIND(type, member), .at = offsetof(struct type, member),                 \
    .max = sizeof LAYOUT_MEMBER(type, member) - 1
/* A struct bytes. */
#define BYTES(type, member, longest)                                                                         \
    .name = #member, .kind = LAYOUT_STRING, .at = offsetof(struct type, member.data),                        \
    .len_at = offsetof(struct type, member.len), .max = (longest)
/* A pointer, with its length in member_len. */
#define STRING(type, member, longest)                                                                        \
    .name = #member, .kind = LAYOUT_STRING, .at = offsetof(struct type, member),                             \
    .len_at = offsetof(struct type, member##_len), .max = (longest)
#define REST(type, member)                                                                                   \
    .name = #member, .kind = LAYOUT_REST, .at = offsetof(struct type, member.data),                          \
    .len_at = offsetof(struct type, member.len)
#define STRUCT(type, member, layout)                                                                         \
    .name = #member, .kind = LAYOUT_STRUCT, .at = offsetof(struct type, member), .of = (layout)
#define ROWS(type, member, layout)                                                                           \
    .name = #member, .kind = LAYOUT_ROWS, .at = offsetof(struct type, member), .of = (layout)
/* Behind one of these: that it may be left out; and where the struct says so, in has_member. */
#define OPTIONAL .optional = true
#define OPTIONAL_HAS(type, member) .optional = true, .has_at = offsetof(struct type, has_##member)
#define LAYOUT(of_name, type, of_fields)                                                                     \
    {                                                                                                        \
        .name = (of_name), .fields = (of_fields), .n_fields = sizeof(of_fields) / sizeof *(of_fields),       \
        .size = sizeof(struct type)                                                                          \
    }

#endif
