/* UTF-8 (RFC 3629). */
#ifndef KVFS_SYNC_BASE_UTF8_H
#define KVFS_SYNC_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that s begins with; 0: there is none, or what is there is no UTF-8 (too long a form,
 * a surrogate, beyond 10FFFF, cut off). len: of s. */
size_t utf8_decode(const void *s, size_t len, uint32_t *character_out);

#endif
