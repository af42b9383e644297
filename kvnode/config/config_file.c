/* inih asks a reader for line after line; the reader below sees each line whole
 * and first, so it is where lines are counted, measured and where sections are
 * announced. inih then splits the line and calls the handler at once, so the
 * reader's line number is the handler's. After the first error the reader
 * reports the end of the file. */
#include "kvnode/config/config_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <ini.h>

#include "kvnode/config/config.h"

struct parser {
    const char *text; /* borrowed; the next line */
    size_t len;
    unsigned line;
    const struct config_file_callbacks *callbacks; /* borrowed */
    int error;                                     /* the first one */
    unsigned error_line;
    char why[512];
};

static void fail(struct parser *p, int error)
{
    if (p->error != 0)
        return;
    p->error = error;
    p->error_line = p->line;
}

static void refuse(struct parser *p, const char *why)
{
    if (p->error != 0)
        return;
    snprintf(p->why, sizeof p->why, "%s", why);
    fail(p, -EINVAL);
}

/* line: a terminated title line "[section]", without its end of line. */
static void announce_section(struct parser *p, char *line)
{
    char *end = strchr(line, ']');
    if (end == NULL) {
        refuse(p, "a section's title has no ]");
        return;
    }
    const char *rest = end + 1;
    rest += strspn(rest, " \t");
    if (*rest != '\0' && *rest != ';' && *rest != '#') {
        refuse(p, "text after a section's ]; put it on a line of its own");
        return;
    }
    *end = '\0';
    int rc = p->callbacks->on_section(p->callbacks->arg, line + 1, p->line, p->why, sizeof p->why);
    *end = ']';
    if (rc != 0)
        fail(p, rc);
}

static void check_line(struct parser *p, char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (iscntrl((unsigned char)line[i]) && line[i] != '\t') {
            refuse(p, "a control character; only text is allowed");
            return;
        }
    if ((line[0] == ' ' || line[0] == '\t') && line[strspn(line, " \t")] != '\0') {
        refuse(p, "the line begins with a blank; begin names and sections in the first column");
        return;
    }
    if (line[0] == '[')
        announce_section(p, line);
}

static char *read_line(char *out, int size, void *stream)
{
    struct parser *p = stream;
    if (p->len == 0 || p->error != 0)
        return NULL;
    const char *newline = memchr(p->text, '\n', p->len);
    size_t len = newline != NULL ? (size_t)(newline - p->text) : p->len;
    size_t taken = newline != NULL ? len + 1 : len;
    p->line++;
    if (len > 0 && p->text[len - 1] == '\r')
        len--;
    if (len > CONFIG_LINE_MAX || len + 2 > (size_t)size) {
        char why[80];
        snprintf(why, sizeof why, "the line is longer than %d bytes", CONFIG_LINE_MAX);
        refuse(p, why);
        return NULL;
    }
    memcpy(out, p->text, len);
    out[len] = '\0';
    p->text += taken;
    p->len -= taken;
    check_line(p, out, len);
    if (p->error != 0)
        return NULL;
    out[len] = '\n';
    out[len + 1] = '\0';
    return out;
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    struct parser *p = user;
    if (p->error != 0)
        return 0;
    if (section[0] == '\0')
        refuse(p, "a name before the first [section]");
    else if (name[0] == '\0')
        refuse(p, "a value without a name");
    else if (strstr(value, " #") != NULL || strstr(value, "\t#") != NULL)
        refuse(p, "a # inside a line begins no comment; use \" ;\" or a line of its own");
    else {
        int rc =
            p->callbacks->on_value(p->callbacks->arg, section, name, value, p->line, p->why, sizeof p->why);
        if (rc != 0)
            fail(p, rc);
    }
    return p->error == 0;
}

int config_file_parse(const char *text, size_t len, const char *file,
                      const struct config_file_callbacks *callbacks, char *message_out, size_t message_size)
{
    struct parser p = {.text = text, .len = len, .callbacks = callbacks};
    int rc = ini_parse_stream(read_line, &p, on_value, &p);
    if (p.error == -EINVAL) {
        snprintf(message_out, message_size, "%s:%u: %s", file, p.error_line, p.why);
        return -EINVAL;
    }
    if (p.error != 0 || rc == -2) {
        snprintf(message_out, message_size, "%s: out of memory", file);
        return p.error != 0 ? p.error : -ENOMEM;
    }
    if (rc > 0) {
        snprintf(message_out, message_size, "%s:%d: neither [section] nor name = value", file, rc);
        return -EINVAL;
    }
    return 0;
}
