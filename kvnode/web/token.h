/* Tokens, for who comes over HTTP from where the kernel does not say whose process asks: the file that
 * [http] token_file names, a line for each, `#` begins one that is none:
 *
 *   NAME TOKEN [read-only] [prefix=PATH]
 *
 * NAME: 1 to 64 of A-Z a-z 0-9 . _ -, the label of what he writes. TOKEN: 16 to 256 of A-Z a-z 0-9 - . _ ~ +
 * / and = at its end (RFC 6750). PATH: a key; he has that key and what is below it. No I/O but tokens_read().
 */
#ifndef KVFS_KVNODE_WEB_TOKEN_H
#define KVFS_KVNODE_WEB_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "sync/wire/command.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 256
#define TOKENS_MAX 256
#define TOKEN_FILE_MAX (128 * 1024)
#define TOKEN_WHY_MAX 600

struct token {
    char name[COMMAND_LABEL_MAX + 1];
    char secret[TOKEN_MAX + 1]; /* the rest is 0 */
    char *prefix;               /* owned; "": all keys */
    bool read_only;
    bool revoked; /* it is no longer in the file */
    unsigned refs;
};

struct tokens {
    struct token **all;
    size_t n;
};

/* All lines, or none: -EINVAL, with the bad ones in why, "line 3: …; line 7: …". -ENOMEM. Never says a token.
 */
int tokens_parse(const char *text, size_t len, struct tokens *out, char why[TOKEN_WHY_MAX]);
/* The same of a file, which nobody but its owner may read, and that is this process's user or root. st_out:
 * which file that was; untouched if there is none. -errno, with why. */
int tokens_read(const char *path, struct tokens *out, struct stat *st_out, char why[TOKEN_WHY_MAX]);
/* Those of before that are the same still stay, with who refers to them; the others are revoked. young is
 * empty afterwards. */
void tokens_replace(struct tokens *t, struct tokens *young);
void tokens_free(struct tokens *t);
/* The one whose TOKEN this is, or NULL. How long that takes says nothing of those that there are. */
struct token *tokens_find(const struct tokens *t, const char *secret);
/* A reference. */
struct token *token_ref(struct token *t);
void token_put(struct token *t); /* NULL is ignored */
/* Whether he may have that key, or directory; NULL may have all. */
bool token_covers(const struct token *t, const void *key, size_t len);

#endif
