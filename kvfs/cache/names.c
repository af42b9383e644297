#include "kvfs/cache/names.h"

#include <stdlib.h>
#include <string.h>

#include "kvfs/cache/cache.h"

_Static_assert(offsetof(struct name, text) == offsetof(struct name, parent) + sizeof(uint64_t),
               "the key is in one piece");

static struct name *name_new(uint64_t parent, const void *text, size_t len)
{
    struct name *name = calloc(1, sizeof *name + len + 1);

    if (name == NULL)
        return NULL;
    name->parent = parent;
    memcpy(name->text, text, len);
    return name;
}

void names_init(struct names *names)
{
    TAILQ_INIT(&names->wrong);
}

void names_free_list(struct name_list *list)
{
    struct name *name;

    while ((name = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, name, link);
        free(name);
    }
}

void names_free_missing(struct name *missing)
{
    struct name *name, *next;

    HASH_ITER(hh, missing, name, next)
    {
        HASH_DEL(missing, name);
        free(name);
    }
}

void names_deinit(struct names *names)
{
    names_free_list(&names->wrong);
    names_free_missing(names_take_missing(names));
}

struct name *names_take_missing(struct names *names)
{
    struct name *missing = names->missing;

    names->missing = NULL;
    return missing;
}

void names_take_wrong(struct names *names, struct name_list *out, bool *any_out)
{
    TAILQ_INIT(out);
    TAILQ_CONCAT(out, &names->wrong, link);
    *any_out = names->any_wrong;
    names->n_wrong = 0;
    names->any_wrong = false;
}

bool names_are_pending(const struct cache *cache)
{
    return cache->names.any_wrong || cache->names.n_wrong > 0;
}

void names_all_wrong(struct cache *cache)
{
    names_free_list(&cache->names.wrong);
    cache->names.n_wrong = 0;
    cache->names.any_wrong = true;
    notifier_wake(cache);
}

/* Consumed; NULL: there was no memory for it. */
static void put_wrong(struct cache *cache, struct name *name)
{
    struct names *names = &cache->names;

    if (name == NULL || names->any_wrong || names->n_wrong == NAMES_WRONG_MAX) {
        free(name);
        names_all_wrong(cache);
        return;
    }
    TAILQ_INSERT_TAIL(&names->wrong, name, link);
    names->n_wrong++;
    notifier_wake(cache);
}

static struct name *find_missing(struct names *names, uint64_t parent, const void *text, size_t len)
{
    struct {
        uint64_t parent;
        char text[KV_NAME_MAX];
    } key = {.parent = parent};
    struct name *name = NULL;

    if (len > sizeof key.text)
        return NULL; /* there is none */
    memcpy(key.text, text, len);
    HASH_FIND(hh, names->missing, &key, sizeof parent + len, name);
    return name;
}

void names_wrong(struct cache *cache, uint64_t parent, const void *name, size_t len)
{
    put_wrong(cache, len > 0 ? name_new(parent, name, len) : NULL);
}

void names_appeared(struct cache *cache, uint64_t parent, const void *name, size_t len)
{
    struct kernel_inode *directory = kernel_inode_find(cache, parent);
    struct name *missing;

    if (directory == NULL || !directory->negatives)
        return;
    if (len == 0) {
        put_wrong(cache, NULL);
        return;
    }
    missing = find_missing(&cache->names, parent, name, len);
    if (missing == NULL)
        return;
    HASH_DEL(cache->names.missing, missing);
    put_wrong(cache, missing);
}

double names_told_missing(struct cache *cache, struct kernel_inode *parent, const char *name)
{
    struct names *names = &cache->names;
    size_t len = strlen(name);
    struct name *missing;

    if (cache->entry_timeout <= 0)
        return 0;
    parent->negatives = true;
    if (find_missing(names, parent->ino, name, len) != NULL)
        return cache->entry_timeout;
    /* Too many: the kernel forgets all, and so does this table. */
    if (HASH_CNT(hh, names->missing) >= NAMES_MISSING_MAX) {
        names_all_wrong(cache);
        return 0;
    }
    missing = name_new(parent->ino, name, len);
    if (missing == NULL)
        return 0;
    HASH_ADD_KEYPTR(hh, names->missing, &missing->parent, sizeof missing->parent + len, missing);
    if (!HASH_ADDED(hh, missing)) {
        free(missing);
        return 0;
    }
    return cache->entry_timeout;
}
