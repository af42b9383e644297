#include "kvnode/admin/format.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/base/utf8.h"

/* Rounded down, before 1970 too. */
static time_t seconds_of(int64_t ns)
{
    return ns / 1000000000 - (ns % 1000000000 < 0);
}

void format_time(int64_t ns, char *out, size_t size)
{
    time_t seconds = seconds_of(ns);
    struct tm tm;
    localtime_r(&seconds, &tm);
    strftime(out, size, "%Y-%m-%d %H:%M:%S", &tm);
}

void format_time_utc(int64_t ns, char *out, size_t size)
{
    time_t seconds = seconds_of(ns);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, size - n, ".%03uZ", (unsigned)((ns - seconds * 1000000000) / 1000000));
}

void format_size(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1024 && unit < 4) {
        n /= 1024;
        unit++;
    }
    snprintf(out, size, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
}

void format_revision(uint64_t revision, char *out, size_t size)
{
    snprintf(out, size, "0-%" PRIu64, revision);
}

/* Of many in a row most are of one account, and a look-up reads files. */
struct known {
    uint32_t id;
    char name[64]; /* "": none yet */
};

static void format_known(struct known *k, uint32_t id, const char *(*find)(uint32_t id), char *out,
                         size_t size)
{
    if (k->name[0] == '\0' || k->id != id) {
        const char *name = find(id);

        k->id = id;
        if (name != NULL)
            snprintf(k->name, sizeof k->name, "%s", name);
        else
            snprintf(k->name, sizeof k->name, "%" PRIu32, id);
    }
    snprintf(out, size, "%s", k->name);
}

static const char *find_user(uint32_t uid)
{
    const struct passwd *p = getpwuid(uid);

    return p != NULL ? p->pw_name : NULL;
}

static const char *find_group(uint32_t gid)
{
    const struct group *g = getgrgid(gid);

    return g != NULL ? g->gr_name : NULL;
}

void format_user(uint32_t uid, char *out, size_t size)
{
    static struct known last;

    format_known(&last, uid, find_user, out, size);
}

void format_group(uint32_t gid, char *out, size_t size)
{
    static struct known last;

    format_known(&last, gid, find_group, out, size);
}

void format_author(uint32_t uid, const char *node, char *out, size_t size)
{
    char user[64];
    format_user(uid, user, sizeof user);
    snprintf(out, size, "%s@%s", user, node);
}

void format_row_author(const struct version_row *row, char *out, size_t size)
{
    char author[100];
    format_author(row->author_uid, row->author_node, author, sizeof author);
    if (row->label[0] != '\0')
        snprintf(out, size, "%s(%s)", author, row->label);
    else
        snprintf(out, size, "%s", author);
}

const char *format_type(uint8_t type)
{
    static const char *const types[] = {[INODE_FILE] = "file",
                                        [INODE_DIRECTORY] = "directory",
                                        [INODE_SYMLINK] = "symlink",
                                        [INODE_FIFO] = "fifo",
                                        [INODE_SOCKET] = "socket"};
    return type < sizeof types / sizeof types[0] && types[type] != NULL ? types[type] : "?";
}

void format_mode(uint8_t type, uint16_t mode, char out[static 11])
{
    static const char kinds[] = "--dlps", letters[] = "rwxrwxrwx";
    out[0] = type < sizeof kinds - 1 ? kinds[type] : '-';
    for (int i = 0; i < 9; i++)
        out[1 + i] = (mode >> (8 - i) & 1) != 0 ? letters[i] : '-';
    if ((mode & 04000) != 0)
        out[3] = out[3] == 'x' ? 's' : 'S';
    if ((mode & 02000) != 0)
        out[6] = out[6] == 'x' ? 's' : 'S';
    if ((mode & 01000) != 0)
        out[9] = out[9] == 'x' ? 't' : 'T';
    out[10] = '\0';
}

void format_duration(uint64_t ms, char *out, size_t size)
{
    if (ms < 10000)
        snprintf(out, size, "%.1f s", (double)ms / 1000);
    else if (ms < 120000)
        snprintf(out, size, "%" PRIu64 " s", ms / 1000);
    else if (ms < UINT64_C(2) * 3600 * 1000)
        snprintf(out, size, "%" PRIu64 " min", ms / 60000);
    else if (ms < UINT64_C(48) * 3600 * 1000)
        snprintf(out, size, "%" PRIu64 " h", ms / 3600000);
    else
        snprintf(out, size, "%" PRIu64 " d", ms / (24 * 3600 * 1000));
}

/* Bytes of the character at s that a terminal may be shown as it is, or 0: a control
 * character (C0, DEL, C1), or no UTF-8 (RFC 3629). */
static size_t printable(const uint8_t *s, size_t len)
{
    uint32_t c;
    size_t n = utf8_decode(s, len, &c);

    if (n == 0 || c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200E && c <= 0x200F) ||
        (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))
        return 0; /* among them those that turn the direction of writing */
    return n;
}

static bool harmless(const uint8_t *s, size_t len)
{
    if (len >= 2 && s[0] == '$' && s[1] == '\'')
        return false;
    for (size_t i = 0, n; i < len; i += n)
        if ((n = printable(s + i, len - i)) == 0)
            return false;
    return true;
}

void format_name(FILE *out, const void *name, size_t len, bool quote)
{
    static const char letters[] = "abtnvfr"; /* 7 to 13 */
    const uint8_t *s = name;

    if (!quote || harmless(s, len)) {
        fwrite(s, 1, len, out);
        return;
    }
    fputs("$'", out);
    for (size_t i = 0; i < len;) {
        size_t n = printable(s + i, len - i);

        if (n == 1 && (s[i] == '\\' || s[i] == '\''))
            fputc('\\', out);
        if (n > 0)
            fwrite(s + i, 1, n, out);
        else if (s[i] >= 7 && s[i] <= 13)
            fprintf(out, "\\%c", letters[s[i] - 7]);
        else
            fprintf(out, "\\%03o", s[i]);
        i += n > 0 ? n : 1;
    }
    fputc('\'', out);
}

void json_line(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(object);
}

static char *base64(const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((len + 2) / 3 * 4 + 1), *p = out;
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t n = (uint32_t)data[i] << 16;
        n |= i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0;
        n |= i + 2 < len ? data[i + 2] : 0;
        *p++ = digits[n >> 18];
        *p++ = digits[n >> 12 & 63];
        *p++ = i + 1 < len ? digits[n >> 6 & 63] : '=';
        *p++ = i + 2 < len ? digits[n & 63] : '=';
    }
    *p = '\0';
    return out;
}

void json_set_bytes(json_t *object, const char *name, const void *data, size_t len)
{
    char long_name[64];
    json_t *text = json_stringn(data != NULL ? data : "", len); /* NULL: not UTF-8 */
    if (text != NULL) {
        json_object_set_new(object, name, text);
        return;
    }
    char *encoded = base64(data, len);
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    if (encoded != NULL)
        json_object_set_new(object, long_name, json_string(encoded));
    free(encoded);
}

json_t *json_version_row(const struct version_row *row)
{
    char revision[32], when[40], author[128];
    format_revision(row->revision, revision, sizeof revision);
    format_time_utc(row->wall_ns, when, sizeof when);
    format_author(row->author_uid, row->author_node, author, sizeof author);
    json_t *object = json_pack("{s:I, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:b, s:b, s:b, s:s}", "version",
                               (json_int_t)row->version, "revision", revision, "time", when, "author", author,
                               "author_uid", (json_int_t)row->author_uid, "author_node", row->author_node,
                               "type", format_type(row->type), "size", (json_int_t)row->size, "current",
                               row->current != 0, "deleted", row->deleted != 0, "attributes_only",
                               row->attributes_only != 0, "operation", version_row_op(row));
    if (object != NULL && row->label[0] != '\0')
        json_object_set_new(object, "label", json_string(row->label));
    return object;
}
