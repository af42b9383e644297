#include "sync/wire/layout.h"

#include <endian.h>
#include <string.h>

struct cursor rows_cursor(const struct rows *r)
{
    return cursor_of(r->bytes.data, r->bytes.len);
}

/* From the host's order of bytes to the network's, or back: that is the same. */
static void turn(uint8_t *to, const uint8_t *from, enum layout_kind kind)
{
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;

    switch (kind) {
    case LAYOUT_U8:
        *to = *from;
        break;
    case LAYOUT_U16:
        memcpy(&u16, from, sizeof u16);
        u16 = htobe16(u16);
        memcpy(to, &u16, sizeof u16);
        break;
    case LAYOUT_U32:
        memcpy(&u32, from, sizeof u32);
        u32 = htobe32(u32);
        memcpy(to, &u32, sizeof u32);
        break;
    default:
        memcpy(&u64, from, sizeof u64);
        u64 = htobe64(u64);
        memcpy(to, &u64, sizeof u64);
        break;
    }
}

static void put_number(struct buffer *b, enum layout_kind kind, const uint8_t *from)
{
    if (!buffer_reserve(b, kind))
        return;
    turn(b->data + b->len, from, kind);
    b->len += kind;
}

/* Is left as it is if there are too few bytes. */
static void take_number(struct cursor *c, enum layout_kind kind, uint8_t *to)
{
    const uint8_t *from = cursor_bytes(c, kind);

    if (from != NULL)
        turn(to, from, kind);
}

static void put_field(struct buffer *b, const struct layout_field *f, const uint8_t *values,
                      uint16_t protocol)
{
    const uint8_t *data;
    struct rows rows;
    size_t len;

    switch (f->kind) {
    case LAYOUT_TEXT:
        buffer_put_text(b, (const char *)values + f->at);
        break;
    case LAYOUT_STRING:
    case LAYOUT_REST:
        memcpy(&data, values + f->at, sizeof data);
        memcpy(&len, values + f->len_at, sizeof len);
        if (f->kind == LAYOUT_STRING)
            buffer_put_string(b, data, len);
        else
            buffer_put_bytes(b, data, len);
        break;
    case LAYOUT_STRUCT:
        layout_encode(b, f->of, values + f->at, protocol);
        break;
    case LAYOUT_ROWS:
        memcpy(&rows, values + f->at, sizeof rows);
        buffer_put_u32(b, rows.count);
        buffer_put_bytes(b, rows.bytes.data, rows.bytes.len);
        break;
    default:
        put_number(b, f->kind, values + f->at);
        break;
    }
}

void layout_encode(struct buffer *b, const struct layout *l, const void *values, uint16_t protocol)
{
    const uint8_t *from = values;
    uint16_t i;

    for (i = 0; i < l->n_fields && l->fields[i].since <= protocol; i++) {
        const struct layout_field *f = &l->fields[i];

        if (f->has_at != 0 && from[f->has_at] == 0)
            break; /* so is all behind it */
        put_field(b, f, from, protocol);
    }
}

/* Over one row of a layout, with the checks of its decoder. */
static void skip(struct cursor *c, const struct layout *l)
{
    size_t len;
    uint16_t i;

    for (i = 0; i < l->n_fields; i++) {
        const struct layout_field *f = &l->fields[i];

        if (f->kind == LAYOUT_STRUCT)
            skip(c, f->of);
        else if (f->kind == LAYOUT_TEXT || f->kind == LAYOUT_STRING)
            cursor_string(c, f->max, &len);
        else
            cursor_bytes(c, f->kind);
    }
}

static void take_rows(struct cursor *c, const struct layout *l, struct rows *rows_out)
{
    uint32_t i;

    rows_out->count = cursor_u32(c);
    rows_out->bytes.data = c->data;
    for (i = 0; i < rows_out->count && !c->failed; i++)
        skip(c, l);
    rows_out->bytes.len = (size_t)(c->data - rows_out->bytes.data);
}

static void take_field(struct cursor *c, const struct layout_field *f, uint8_t *to)
{
    const uint8_t *data;
    struct rows rows;
    size_t len;

    switch (f->kind) {
    case LAYOUT_TEXT:
        data = cursor_string(c, f->max, &len);
        if (data != NULL)
            memcpy(to + f->at, data, len);
        break;
    case LAYOUT_STRING:
    case LAYOUT_REST:
        len = c->len;
        data = f->kind == LAYOUT_STRING ? cursor_string(c, f->max, &len) : cursor_bytes(c, len);
        memcpy(to + f->at, &data, sizeof data);
        memcpy(to + f->len_at, &len, sizeof len);
        break;
    case LAYOUT_STRUCT:
        layout_decode(c, f->of, to + f->at);
        break;
    case LAYOUT_ROWS:
        take_rows(c, f->of, &rows);
        memcpy(to + f->at, &rows, sizeof rows);
        break;
    default:
        take_number(c, f->kind, to + f->at);
        break;
    }
}

bool layout_decode(struct cursor *c, const struct layout *l, void *values_out)
{
    uint8_t *to = values_out;
    uint16_t i;

    if (l->size > 0)
        memset(to, 0, l->size);
    for (i = 0; i < l->n_fields; i++) {
        const struct layout_field *f = &l->fields[i];

        if (f->optional && c->len == 0)
            break;
        if (f->has_at != 0)
            to[f->has_at] = true;
        take_field(c, f, to);
    }
    return !c->failed;
}
