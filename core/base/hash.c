/* SHA-256 through libcrypto's EVP, ids, and kernel randomness. */
#include "core/base/hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/clock.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = malloc(sizeof(*h));
    if (!h)
        return NULL;
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        sha256_discard(h);
        return NULL;
    }
    return h;
}

void sha256_update(struct sha256 *h, const void *data, size_t len)
{
    BUG_ON(EVP_DigestUpdate(h->ctx, data, len) != 1);
}

static void hex(const unsigned char *d, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", d[i]);
}

void sha256_final_hex(struct sha256 *h, char out[SHA256_HEX_SIZE])
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    BUG_ON(EVP_DigestFinal_ex(h->ctx, d, &n) != 1 || n != 32);
    hex(d, n, out);
    sha256_discard(h);
}

void sha256_discard(struct sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_hex(const void *data, size_t len, char out[SHA256_HEX_SIZE])
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    BUG_ON(EVP_Digest(data, len, d, &n, EVP_sha256(), NULL) != 1);
    hex(d, n, out);
}

int sha256_file_hex(const char *path, char out[SHA256_HEX_SIZE], struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s", path);
    struct sha256 *h = sha256_new();
    char *block = malloc(1 << 16);
    int rc = h && block ? 0 : err_set(e, ERR_NOMEM, "%s: no memory to hash it", path);
    ssize_t n = 0;
    while (rc == 0 && (n = read(fd, block, 1 << 16)) > 0)
        sha256_update(h, block, (size_t)n);
    if (rc == 0 && n < 0)
        rc = err_errno(e, "%s", path);
    if (rc == 0)
        sha256_final_hex(h, out);
    else
        sha256_discard(h);
    free(block);
    close(fd);
    return rc;
}

void random_bytes(void *out, size_t len)
{
    unsigned char *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        BUG_ON(n <= 0);
        p += n;
        len -= (size_t)n;
    }
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, unsigned char out[32])
{
    BUG_ON(!HMAC(EVP_sha256(), key, (int)key_len, data, len, out, NULL));
}

void id_new(char out[ID_SIZE])
{
    uint64_t ms = (uint64_t)clock_wall_ms();
    for (int i = 9; i >= 0; i--, ms >>= 5)
        out[i] = alphabet[ms & 31];
    unsigned char r[16];
    random_bytes(r, sizeof(r));
    for (int i = 0; i < 16; i++)
        out[10 + i] = alphabet[r[i] & 31];
    out[26] = 0;
}

int id_valid(const char *s)
{
    size_t n = strspn(s, alphabet);
    return n == ID_SIZE - 1 && s[n] == 0;
}
