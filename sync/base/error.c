#include "sync/base/error.h"

#include <errno.h>
#include <stddef.h>

static const struct {
    const char *text;
    int err;
} errors[KV_E_COUNT] = {
    [KV_OK] = {"ok", 0},
    [KV_E_NOENT] = {"no such key", ENOENT},
    [KV_E_EXIST] = {"the key exists", EEXIST},
    [KV_E_NOTDIR] = {"a part of the path is not a directory", ENOTDIR},
    [KV_E_ISDIR] = {"it is a directory", EISDIR},
    [KV_E_NOTEMPTY] = {"the directory is not empty", ENOTEMPTY},
    [KV_E_ACCES] = {"permission denied", EACCES},
    [KV_E_PERM] = {"operation not permitted", EPERM},
    [KV_E_INVAL] = {"invalid argument", EINVAL},
    [KV_E_NAMETOOLONG] = {"the name is too long", ENAMETOOLONG},
    [KV_E_FBIG] = {"the value is larger than the cluster allows", EFBIG},
    [KV_E_NOSPC] = {"no space left", ENOSPC},
    [KV_E_ROFS] = {"this node is in a minority", EROFS},
    [KV_E_STALE] = {"the file is gone", ESTALE},
    [KV_E_LOOP] = {"a directory cannot move below itself", EINVAL},
    [KV_E_VERSION] = {"the version is not the expected one", EIO},
    [KV_E_UNAVAILABLE] = {"no leader", EIO},
    [KV_E_UNKNOWN] = {"the outcome is unknown", EIO},
    [KV_E_SESSION] = {"the session has ended", EIO},
    [KV_E_NOTLEADER] = {"this node does not lead", EIO},
    [KV_E_BUSY] = {"too much at once", EIO},
    [KV_E_PROTOCOL] = {"malformed message", EIO},
    [KV_E_NOVERSION] = {"no such version", ENOENT},
    [KV_E_NOTSUP] = {"not supported", EOPNOTSUPP},
    [KV_E_DUPLICATE] = {"a request number was used twice", EIO},
    [KV_E_PART] = {"parts of a large request are missing", EIO},
    [KV_E_REFUSED] = {"refused", EPERM},
    [KV_E_NOATTR] = {"no such extended attribute", ENODATA},
    [KV_E_MLINK] = {"the file has as many names as it may have", EMLINK},
    [KV_E_IO] = {"input/output error on the node's disk", EIO},
    [KV_E_LOCKED] = {"somebody else has locked it", EAGAIN},
    [KV_E_FENCE] = {"that fence is not of this key's lock, or the lock has moved on", EIO},
    [KV_E_DEADLK] = {"to wait for the lock would be a deadlock", EDEADLK},
    [KV_E_NOLCK] = {"no room for more locks", ENOLCK},
};

const char *error_text(int code)
{
    if (code < 0 || code >= KV_E_COUNT || errors[code].text == NULL)
        return "unknown error";
    return errors[code].text;
}

int error_errno(int code)
{
    if (code < 0 || code >= KV_E_COUNT || errors[code].text == NULL)
        return EIO;
    return errors[code].err;
}
