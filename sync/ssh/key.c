/* ed25519 keys in their three forms: the public line, its binary form (RFC 8709
 * §4: string "ssh-ed25519", string of 32 bytes), and the head of OpenSSH's
 * private key file, which holds the public key in the clear:
 *
 *   "openssh-key-v1\0", string cipher, string kdf, string kdf options,
 *   u32 number of keys, string public key, string private part */
#include "sync/ssh/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/base/buffer.h"

#define PREFIX "ssh-ed25519 "
#define BLOB_SIZE (4 + 11 + 4 + 32)
#define BASE64_SIZE (BLOB_SIZE / 3 * 4) /* 51 bytes: no padding */
#define FILE_MAX 8192

static bool blob_valid(const uint8_t *blob, size_t len)
{
    struct cursor c = cursor_of(blob, len);
    const uint8_t *type;
    size_t n;

    type = cursor_string(&c, 11, &n);
    if (type == NULL || n != 11 || memcmp(type, "ssh-ed25519", 11) != 0)
        return false;
    cursor_string(&c, 32, &n);
    return cursor_done(&c) && n == 32;
}

static bool decode_public(const char *text, uint8_t blob[static BLOB_SIZE])
{
    size_t n;

    if (strncmp(text, PREFIX, sizeof PREFIX - 1) != 0)
        return false;
    text += sizeof PREFIX - 1;
    n = strcspn(text, " \t\r\n");
    if (n != BASE64_SIZE || EVP_DecodeBlock(blob, (const unsigned char *)text, (int)n) != BLOB_SIZE)
        return false;
    return blob_valid(blob, BLOB_SIZE);
}

bool identity_public_valid(const char *text, char public_out[IDENTITY_PUBLIC_MAX])
{
    uint8_t blob[BLOB_SIZE];

    if (!decode_public(text, blob))
        return false;
    if (public_out != NULL)
        snprintf(public_out, IDENTITY_PUBLIC_MAX, "%.*s", (int)(sizeof PREFIX - 1 + BASE64_SIZE), text);
    return true;
}

void identity_fingerprint_blob(const void *blob, size_t len, char out[static IDENTITY_FINGERPRINT_MAX])
{
    unsigned char hash[EVP_MAX_MD_SIZE], text[IDENTITY_FINGERPRINT_MAX];
    unsigned hash_len = 0;

    snprintf(out, IDENTITY_FINGERPRINT_MAX, "?");
    if (EVP_Digest(blob, len, hash, &hash_len, EVP_sha256(), NULL) != 1)
        return;
    EVP_EncodeBlock(text, hash, (int)hash_len);
    /* Without the padding, as ssh-keygen prints it. */
    snprintf(out, IDENTITY_FINGERPRINT_MAX, "SHA256:%.*s", (int)strcspn((char *)text, "="), (char *)text);
}

int identity_fingerprint(const char *public_key, char out[static IDENTITY_FINGERPRINT_MAX])
{
    uint8_t blob[BLOB_SIZE];

    if (!decode_public(public_key, blob))
        return -EINVAL;
    identity_fingerprint_blob(blob, sizeof blob, out);
    return 0;
}

/* The base64 lines between the markers, joined. Length or -EINVAL. */
static int strip_armour(const char *text, unsigned char out[static FILE_MAX])
{
    static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n",
                      end[] = "-----END OPENSSH PRIVATE KEY-----";
    const char *stop;
    int n = 0;

    if (strncmp(text, begin, sizeof begin - 1) != 0)
        return -EINVAL;
    text += sizeof begin - 1;
    stop = strstr(text, end);
    if (stop == NULL)
        return -EINVAL;
    for (; text < stop; text++)
        if (*text != '\n' && *text != '\r')
            out[n++] = (unsigned char)*text;
    return n % 4 == 0 ? n : -EINVAL;
}

static int public_of_private(const char *text, char public_out[static IDENTITY_PUBLIC_MAX])
{
    static const char magic[] = "openssh-key-v1";
    unsigned char base64[FILE_MAX], raw[FILE_MAX], encoded[BASE64_SIZE + 1];
    const uint8_t *cipher, *blob, *head;
    size_t cipher_len, n;
    struct cursor c;
    int len = strip_armour(text, base64);

    if (len <= 0 || (len = EVP_DecodeBlock(raw, base64, len)) < 0)
        return -EINVAL;
    c = cursor_of(raw, (size_t)len);
    head = cursor_bytes(&c, sizeof magic);
    cipher = cursor_string(&c, 64, &cipher_len);
    cursor_string(&c, 64, &n);
    cursor_string(&c, 256, &n);
    if (cursor_u32(&c) != 1 || head == NULL || memcmp(head, magic, sizeof magic) != 0)
        return -EINVAL;
    blob = cursor_string(&c, BLOB_SIZE, &n);
    if (blob == NULL || !blob_valid(blob, n) || cipher_len != 4 || memcmp(cipher, "none", 4) != 0)
        return -EINVAL;
    EVP_EncodeBlock(encoded, blob, BLOB_SIZE);
    snprintf(public_out, IDENTITY_PUBLIC_MAX, PREFIX "%s", (char *)encoded);
    return 0;
}

int identity_read_public(const char *path, char public_out[static IDENTITY_PUBLIC_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), result = 0;
    char text[FILE_MAX];
    struct stat st;
    size_t n = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        result = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size >= FILE_MAX)
        result = -EINVAL;
    while (result == 0 && n < sizeof text - 1) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);

        if (got < 0)
            result = -errno;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    if (result == 0) {
        text[n] = '\0';
        result = public_of_private(text, public_out);
    }
    explicit_bzero(text, sizeof text);
    return result;
}
