/*
 * The part of PKCS#11 v2.40 (OASIS Standard) that the hot calls need, declared
 * by ourselves: no distribution's header package is needed to build, and no
 * header of another licence is carried. Names, order and layout follow the
 * standard; on Unix structures have the compiler's natural alignment and
 * CK_ULONG is unsigned long.
 */
#ifndef STRONGROOM_CK_H
#define STRONGROOM_CK_H

#include <stddef.h>
#include <stdint.h>

typedef unsigned long ck_ulong;
typedef ck_ulong ck_rv;

typedef struct {
	ck_ulong type;
	void *value;
	ck_ulong len;
} ck_attribute;

typedef struct {
	ck_ulong mechanism;
	void *parameter;
	ck_ulong len;
} ck_mechanism;

typedef struct {
	uint8_t *iv;
	ck_ulong iv_len;
	ck_ulong iv_bits;
	uint8_t *aad;
	ck_ulong aad_len;
	ck_ulong tag_bits;
} ck_gcm_params;

typedef struct {
	ck_ulong hash;
	ck_ulong mgf;
	ck_ulong source;
	void *source_data;
	ck_ulong source_len;
} ck_oaep_params;

typedef struct {
	ck_ulong hash;
	ck_ulong mgf;
	ck_ulong salt_len;
} ck_pss_params;

/*
 * CK_C_INITIALIZE_ARGS, with one word more: modules that read a string from
 * pReserved (NSS) declare a last member of their own that has to be NULL, and
 * would read it from beyond the standard's structure.
 */
typedef struct {
	void *create_mutex, *destroy_mutex, *lock_mutex, *unlock_mutex;
	ck_ulong flags;
	const char *reserved;
	void *none;
} ck_initialize_args;

/*
 * CK_FUNCTION_LIST is a CK_VERSION (two bytes) and then one pointer for each
 * function in the order of the standard's section 3.6. Only the places that
 * we call have a name here.
 */
enum {
	CK_INITIALIZE = 0,
	CK_LOGIN = 18,
	CK_CREATE_OBJECT = 20,
	CK_ENCRYPT_INIT = 29,
	CK_ENCRYPT = 30,
	CK_DECRYPT_INIT = 33,
	CK_DECRYPT = 34,
	CK_SIGN_INIT = 42,
	CK_SIGN = 43,
	CK_GENERATE_KEY = 58,
	CK_GENERATE_KEY_PAIR = 59,
	CK_WRAP_KEY = 60,
	CK_UNWRAP_KEY = 61,
	CK_FUNCTIONS = 68
};

typedef struct {
	uint8_t major, minor;
	void *call[CK_FUNCTIONS];
} ck_function_list;

/* A module's function list, from the library instance that is loaded already. */
ck_rv sr_functions(const char *path, ck_function_list **out);

/* C_Initialize without mutexes of ours; reserved may be NULL and has to stay where it is. */
ck_rv sr_initialize(ck_function_list *f, ck_ulong flags, const char *reserved);

ck_rv sr_login(ck_function_list *f, ck_ulong session, ck_ulong user, uint8_t *pin, ck_ulong pin_len);

/*
 * AES-GCM with a 128-bit tag: Init and operation, one pass, the caller's buffers.
 * A module that makes the IV itself may write it into iv; iv_len 0 means pIv NULL.
 */
ck_rv sr_gcm(ck_function_list *f, int encrypt, ck_ulong mechanism, ck_ulong session, ck_ulong key,
	uint8_t *iv, ck_ulong iv_len, uint8_t *aad, ck_ulong aad_len,
	uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len);

/* hash 0: a mechanism without parameter; else RSA-PSS with that hash, MGF and length of salt. */
ck_rv sr_sign(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	ck_ulong hash, ck_ulong mgf, ck_ulong salt_len, ck_ulong key,
	uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len);

/* hash 0: a mechanism without parameter; else RSA-OAEP with that hash and MGF. */
ck_rv sr_decrypt(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong key, uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len);

ck_rv sr_wrap(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong wrapping, ck_ulong key, uint8_t *out, ck_ulong *out_len);

/* Templates are flat: see template.go. */
ck_rv sr_unwrap(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong unwrapping, uint8_t *blob, ck_ulong blob_len,
	uint64_t *template, size_t words, ck_ulong *object);

ck_rv sr_generate(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	uint64_t *template, size_t words, ck_ulong *object);

ck_rv sr_generate_pair(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	uint64_t *public_template, size_t public_words,
	uint64_t *private_template, size_t private_words,
	ck_ulong *public_object, ck_ulong *private_object);

ck_rv sr_create(ck_function_list *f, ck_ulong session, uint64_t *template, size_t words, ck_ulong *object);

#endif
