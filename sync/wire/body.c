/* The table of all bodies. tests/unit/wire/test_reference.c compares it with message.h. */
#include "sync/wire/body.h"

#include <assert.h>

#include "sync/base/error.h"
#include "sync/wire/xattr.h"

#define KEY_MAX (KV_PATH_MAX + 1)     /* one more than allowed, so that it can be said what is wrong */
#define CURSOR_MAX (16 + KV_NAME_MAX) /* kvnode/client/past.c makes them */
#define COMMAND_JSON_MAX 65536

static const struct layout nothing = {.name = NULL};

static const struct layout_field hello_request_fields[] = {
    {BYTES(hello_request, magic, 64)},
    {FIELD(hello_request, kind)},
    {BYTES(hello_request, name, KV_NAME_MAX)},
    {FIELD(hello_request, after)},
    {FIELD(hello_request, protocol), OPTIONAL_HAS(hello_request, protocol)},
};
static const struct layout hello_request = LAYOUT(NULL, hello_request, hello_request_fields);

static const struct layout_field hello_answer_fields[] = {
    {FIELD(hello_answer, name)},      {FIELD(hello_answer, cluster_id)},      {FIELD(hello_answer, applied)},
    {FIELD(hello_answer, part_size)}, {FIELD(hello_answer, value_limit)},     {FIELD(hello_answer, trusted)},
    {FIELD(hello_answer, protocol)},  {FIELD(hello_answer, level), OPTIONAL},
};
static const struct layout hello_answer = LAYOUT(NULL, hello_answer, hello_answer_fields);

static const struct layout_field write_request_fields[] = {
    {FIELD(write_request, has_owner)},
    {FIELD(write_request, uid)},
    {FIELD(write_request, gid)},
    {REST(write_request, command)},
};
static const struct layout write_request = LAYOUT(NULL, write_request, write_request_fields);

static const struct layout_field name_request_fields[] = {
    {FIELD(name_request, at)},
    {FIELD(name_request, parent)},
    {BYTES(name_request, name, KV_PATH_MAX)},
};
static const struct layout name_request = LAYOUT(NULL, name_request, name_request_fields);

static const struct layout_field inode_request_fields[] = {
    {FIELD(inode_request, at)},
    {FIELD(inode_request, ino)},
};
static const struct layout inode_request = LAYOUT(NULL, inode_request, inode_request_fields);

static const struct layout_field link_answer_fields[] = {{BYTES(link_answer, target, KV_PATH_MAX)}};
static const struct layout link_answer = LAYOUT(NULL, link_answer, link_answer_fields);

static const struct layout_field read_request_fields[] = {
    {FIELD(read_request, at)},
    {FIELD(read_request, ino)},
    {FIELD(read_request, offset)},
    {FIELD(read_request, length)},
};
static const struct layout read_request = LAYOUT(NULL, read_request, read_request_fields);

static const struct layout_field value_answer_fields[] = {
    {STRUCT(value_answer, attr, &attr_layout)},
    {BYTES(value_answer, data, READ_LENGTH_MAX)},
};
static const struct layout value_answer = LAYOUT(NULL, value_answer, value_answer_fields);

static const struct layout_field readdir_row_fields[] = {
    {FIELD(readdir_row, cookie)},
    {BYTES(readdir_row, name, KV_NAME_MAX)},
    {STRUCT(readdir_row, attr, &attr_layout)},
};
static const struct layout readdir_row_layout = LAYOUT(NULL, readdir_row, readdir_row_fields);

static const struct layout_field names_row_fields[] = {
    {BYTES(names_row, name, KV_NAME_MAX)},
    {FIELD(names_row, version)},
    {FIELD(names_row, deleted)},
};
static const struct layout names_row_layout = LAYOUT(NULL, names_row, names_row_fields);

static const struct layout_field readdir_request_fields[] = {
    {FIELD(readdir_request, at)},
    {FIELD(readdir_request, ino)},
    {FIELD(readdir_request, cookie)},
    {FIELD(readdir_request, n)},
};
static const struct layout readdir_request = LAYOUT(NULL, readdir_request, readdir_request_fields);

static const struct layout_field readdir_answer_fields[] = {
    {FIELD(readdir_answer, eof)},
    {ROWS(readdir_answer, rows, &readdir_row_layout)},
};
static const struct layout readdir_answer = LAYOUT(NULL, readdir_answer, readdir_answer_fields);

static const struct layout_field open_request_fields[] = {
    {FIELD(open_request, at)},
    {FIELD(open_request, ino)},
    {FIELD(open_request, access)},
    {FIELD(open_request, uid), OPTIONAL_HAS(open_request, uid)},
};
static const struct layout open_request = LAYOUT(NULL, open_request, open_request_fields);

static const struct layout_field close_request_fields[] = {{FIELD(close_request, ino)}};
static const struct layout close_request = LAYOUT(NULL, close_request, close_request_fields);

static const struct layout_field statfs_answer_fields[] = {
    {FIELD(statfs_answer, keys)},
    {FIELD(statfs_answer, bytes)},
    {FIELD(statfs_answer, max_keys)},
    {FIELD(statfs_answer, max_bytes)},
};
static const struct layout statfs_answer = LAYOUT(NULL, statfs_answer, statfs_answer_fields);

static const struct layout_field path_request_fields[] = {
    {FIELD(path_request, at)},
    {BYTES(path_request, path, KEY_MAX)},
};
static const struct layout path_request = LAYOUT(NULL, path_request, path_request_fields);

static const struct layout_field resolve_answer_fields[] = {
    {STRUCT(resolve_answer, attr, &attr_layout)},
    {FIELD(resolve_answer, parent)},
    {BYTES(resolve_answer, name, KV_NAME_MAX)},
};
static const struct layout resolve_answer = LAYOUT(NULL, resolve_answer, resolve_answer_fields);

static const struct layout_field get_request_fields[] = {
    {FIELD(get_request, at)},     {BYTES(get_request, path, KEY_MAX)},    {FIELD(get_request, offset)},
    {FIELD(get_request, length)}, {FIELD(get_request, content_revision)},
};
static const struct layout get_request = LAYOUT(NULL, get_request, get_request_fields);

static const struct layout_field history_request_fields[] = {
    {FIELD(history_request, directory)},
    {BYTES(history_request, name, KV_NAME_MAX)},
    {FIELD(history_request, before)},
    {FIELD(history_request, n)},
};
static const struct layout history_request = LAYOUT(NULL, history_request, history_request_fields);

static const struct layout_field history_answer_fields[] = {
    {FIELD(page_answer, more)},
    {ROWS(page_answer, rows, &version_row_layout)},
    {BYTES(page_answer, labels, FRAME_PAYLOAD_MAX), OPTIONAL_HAS(page_answer, labels)},
};
static const struct layout history_answer = LAYOUT(NULL, page_answer, history_answer_fields);

static const struct layout_field version_request_fields[] = {
    {FIELD(version_request, directory)}, {BYTES(version_request, name, KV_NAME_MAX)},
    {FIELD(version_request, version)},   {FIELD(version_request, offset)},
    {FIELD(version_request, length)},
};
static const struct layout version_request = LAYOUT(NULL, version_request, version_request_fields);

static const struct layout_field version_answer_fields[] = {
    {STRUCT(version_answer, row, &version_row_layout)},
    {BYTES(version_answer, data, READ_LENGTH_MAX)},
    {FIELD(version_answer, mode)},
    {FIELD(version_answer, uid)},
    {FIELD(version_answer, gid)},
};
static const struct layout version_answer = LAYOUT(NULL, version_answer, version_answer_fields);

static const struct layout_field names_request_fields[] = {
    {FIELD(names_request, directory)},
    {BYTES(names_request, after, KV_NAME_MAX)},
    {FIELD(names_request, n)},
};
static const struct layout names_request = LAYOUT(NULL, names_request, names_request_fields);

static const struct layout_field names_answer_fields[] = {
    {FIELD(page_answer, more)},
    {ROWS(page_answer, rows, &names_row_layout)},
};
static const struct layout names_answer = LAYOUT(NULL, page_answer, names_answer_fields);

static const struct layout_field log_request_fields[] = {
    {FIELD(log_request, after)},
    {FIELD(log_request, n)},
    {BYTES(log_request, cursor, CURSOR_MAX), OPTIONAL_HAS(log_request, cursor)},
};
static const struct layout log_request = LAYOUT(NULL, log_request, log_request_fields);

static const struct layout_field log_answer_fields[] = {
    {FIELD(log_answer, more)},
    {ROWS(log_answer, rows, &log_row_layout)},
    {BYTES(log_answer, cursor, LOG_CURSOR_MAX)},
    {FIELD(log_answer, gap_after), OPTIONAL},
    {FIELD(log_answer, gap_until), OPTIONAL},
    {BYTES(log_answer, labels, FRAME_PAYLOAD_MAX), OPTIONAL_HAS(log_answer, labels)},
};
static const struct layout log_answer = LAYOUT(NULL, log_answer, log_answer_fields);

static const struct layout_field subscribe_request_fields[] = {
    {FIELD(subscribe_request, after)},
    {FIELD(subscribe_request, sparse), OPTIONAL_HAS(subscribe_request, sparse)},
};
static const struct layout subscribe_request = LAYOUT(NULL, subscribe_request, subscribe_request_fields);

static const struct layout_field revision_answer_fields[] = {{FIELD(revision_answer, revision)}};
static const struct layout revision_answer = LAYOUT(NULL, revision_answer, revision_answer_fields);

static const struct layout_field admin_request_fields[] = {{BYTES(json_body, json, COMMAND_JSON_MAX)}};
static const struct layout admin_request = LAYOUT(NULL, json_body, admin_request_fields);

static const struct layout_field json_answer_fields[] = {{BYTES(json_body, json, FRAME_PAYLOAD_MAX)}};
static const struct layout json_answer = LAYOUT(NULL, json_body, json_answer_fields);

static const struct layout_field reserve_request_fields[] = {
    {FIELD(reserve_request, held)},
    {FIELD(reserve_request, least)},
    {FIELD(reserve_request, wanted)},
};
static const struct layout reserve_request = LAYOUT(NULL, reserve_request, reserve_request_fields);

static const struct layout_field reserve_answer_fields[] = {{FIELD(reserve_answer, granted)}};
static const struct layout reserve_answer = LAYOUT(NULL, reserve_answer, reserve_answer_fields);

static const struct layout_field xattr_request_fields[] = {
    {FIELD(xattr_request, at)},
    {FIELD(xattr_request, ino)},
    {BYTES(xattr_request, name, KV_PATH_MAX)},
};
static const struct layout xattr_request = LAYOUT(NULL, xattr_request, xattr_request_fields);

static const struct layout_field xattr_answer_fields[] = {{BYTES(xattr_answer, value, KV_XATTR_VALUE_MAX)}};
static const struct layout xattr_answer = LAYOUT(NULL, xattr_answer, xattr_answer_fields);

static const struct layout_field xattr_names_answer_fields[] = {
    {BYTES(xattr_names_answer, names, KV_XATTRS_MAX)}};
static const struct layout xattr_names_answer = LAYOUT(NULL, xattr_names_answer, xattr_names_answer_fields);

static const struct layout_field version_xattrs_request_fields[] = {
    {FIELD(version_xattrs_request, directory)},
    {BYTES(version_xattrs_request, name, KV_NAME_MAX)},
    {FIELD(version_xattrs_request, version)},
};
static const struct layout version_xattrs_request =
    LAYOUT(NULL, version_xattrs_request, version_xattrs_request_fields);

static const struct layout_field xattrs_answer_fields[] = {{BYTES(xattrs_answer, xattrs, KV_XATTRS_MAX)}};
static const struct layout xattrs_answer = LAYOUT(NULL, xattrs_answer, xattrs_answer_fields);

static const struct layout_field locks_request_fields[] = {
    {FIELD(locks_request, at)},
    {FIELD(locks_request, ino)},
    {FIELD(locks_request, all)},
};
static const struct layout locks_request = LAYOUT(NULL, locks_request, locks_request_fields);

static const struct layout_field locks_answer_fields[] = {
    {FIELD(page_answer, more)},
    {ROWS(page_answer, rows, &lock_row_layout)},
};
static const struct layout locks_answer = LAYOUT(NULL, page_answer, locks_answer_fields);

static const struct layout_field invalidated_request_fields[] = {{FIELD(invalidated_request, number)}};
static const struct layout invalidated_request =
    LAYOUT(NULL, invalidated_request, invalidated_request_fields);

static const struct layout_field held_request_fields[] = {
    {FIELD(held_request, at)},
    {FIELD(held_request, ino)},
    {FIELD(held_request, session)},
};
static const struct layout held_request = LAYOUT(NULL, held_request, held_request_fields);

static const struct layout_field held_answer_fields[] = {
    {FIELD(held_answer, fence)},
    {FIELD(held_answer, since_ns)},
    {FIELD(held_answer, exclusive)},
    {BYTES(held_answer, client, KV_NAME_MAX)},
    {BYTES(held_answer, path, KV_PATH_MAX)},
};
static const struct layout held_answer = LAYOUT(NULL, held_answer, held_answer_fields);

static const struct body bodies[MESSAGE_REQUEST_COUNT] = {
    [MESSAGE_HELLO] = {"HELLO", &hello_request, &hello_answer},
    [MESSAGE_WRITE] = {"WRITE", &write_request, &command_result_layout},
    [MESSAGE_BARRIER] = {"BARRIER", &nothing, &revision_answer},
    [MESSAGE_LOOKUP] = {"LOOKUP", &name_request, &attr_layout},
    [MESSAGE_GETATTR] = {"GETATTR", &inode_request, &attr_layout},
    [MESSAGE_READLINK] = {"READLINK", &inode_request, &link_answer},
    [MESSAGE_READ] = {"READ", &read_request, &value_answer},
    [MESSAGE_READDIR] = {"READDIR", &readdir_request, &readdir_answer},
    [MESSAGE_OPEN] = {"OPEN", &open_request, &attr_layout},
    [MESSAGE_CLOSE] = {"CLOSE", &close_request, &nothing},
    [MESSAGE_STATFS] = {"STATFS", &nothing, &statfs_answer},
    [MESSAGE_RESOLVE] = {"RESOLVE", &path_request, &resolve_answer},
    [MESSAGE_GET] = {"GET", &get_request, &value_answer},
    [MESSAGE_HISTORY] = {"HISTORY", &history_request, &history_answer},
    [MESSAGE_VERSION] = {"VERSION", &version_request, &version_answer},
    [MESSAGE_NAMES] = {"NAMES", &names_request, &names_answer},
    [MESSAGE_LOG] = {"LOG", &log_request, &log_answer},
    [MESSAGE_SUBSCRIBE] = {"SUBSCRIBE", &subscribe_request, &revision_answer},
    [MESSAGE_STATUS] = {"STATUS", &nothing, &json_answer},
    [MESSAGE_SETTINGS] = {"SETTINGS", &nothing, &json_answer},
    [MESSAGE_ADMIN] = {"ADMIN", &admin_request, &json_answer},
    [MESSAGE_GETXATTR] = {"GETXATTR", &xattr_request, &xattr_answer},
    [MESSAGE_LISTXATTR] = {"LISTXATTR", &inode_request, &xattr_names_answer},
    [MESSAGE_VERSION_XATTRS] = {"VERSION_XATTRS", &version_xattrs_request, &xattrs_answer},
    [MESSAGE_RESERVE] = {"RESERVE", &reserve_request, &reserve_answer},
    [MESSAGE_LOCKS] = {"LOCKS", &locks_request, &locks_answer},
    [MESSAGE_LEASED] = {"LEASED", &nothing, &nothing},
    [MESSAGE_INVALIDATED] = {"INVALIDATED", &invalidated_request, &nothing},
    [MESSAGE_HELD] = {"HELD", &held_request, &held_answer},
};

const struct body *body_of(uint8_t type)
{
    return type < MESSAGE_REQUEST_COUNT && bodies[type].name != NULL ? &bodies[type] : NULL;
}

void body_encode_request(struct buffer *b, uint8_t type, const union request_body *body)
{
    static const union request_body zeros;

    assert(body_of(type) != NULL);
    layout_encode(b, bodies[type].request, body != NULL ? body : &zeros, MESSAGE_PROTOCOL);
}

void body_encode_answer(struct buffer *b, uint8_t type, const union answer_body *body, uint16_t protocol)
{
    static const union answer_body zeros;

    assert(body_of(type) != NULL);
    layout_encode(b, bodies[type].answer, body != NULL ? body : &zeros, protocol);
}

void readdir_row_encode(struct buffer *b, const struct readdir_row *r, uint16_t protocol)
{
    layout_encode(b, &readdir_row_layout, r, protocol);
}

void readdir_row_decode(struct cursor *c, struct readdir_row *r_out)
{
    layout_decode(c, &readdir_row_layout, r_out);
}

void names_row_encode(struct buffer *b, const struct names_row *r)
{
    layout_encode(b, &names_row_layout, r, MESSAGE_PROTOCOL);
}

void names_row_decode(struct cursor *c, struct names_row *r_out)
{
    layout_decode(c, &names_row_layout, r_out);
}

void body_string_end(struct buffer *b, size_t end)
{
    if (!b->failed)
        buffer_set_u32(b, end - sizeof(uint32_t), (uint32_t)(b->len - end));
}

int body_decode_request(uint8_t type, const void *data, size_t len, union request_body *body_out)
{
    struct cursor c = cursor_of(data, len);

    if (body_of(type) == NULL)
        return KV_E_NOTSUP;
    return layout_decode(&c, bodies[type].request, body_out) && cursor_done(&c) ? KV_OK : KV_E_PROTOCOL;
}

bool body_decode_answer(uint8_t type, struct cursor *c, union answer_body *body_out)
{
    assert(body_of(type) != NULL);
    return layout_decode(c, bodies[type].answer, body_out);
}
