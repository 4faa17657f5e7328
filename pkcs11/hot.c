/*
 * The hot calls: Init and operation in one crossing from Go, so that no other
 * code can come between them on a session, and on the caller's buffers, so
 * that there is no copy on the C heap that a failing path could leak or leave
 * unwiped. Pointers into Go memory live on this stack only, for the length of
 * the call.
 */
#include "ck.h"

#include <dlfcn.h>

#define CKR_OK 0UL
#define CKR_GENERAL_ERROR 5UL
#define CKR_TEMPLATE_INCONSISTENT 0xD1UL
#define ARRAY_ATTRIBUTE 0x40000000UL
#define MAX_ATTRIBUTES 24
#define MAX_NESTED 8

ck_rv sr_functions(const char *path, ck_function_list **out) {
	ck_rv (*get)(ck_function_list **);
	void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (library == NULL)
		return CKR_GENERAL_ERROR;
	*(void **)&get = dlsym(library, "C_GetFunctionList");
	if (get == NULL)
		return CKR_GENERAL_ERROR;
	return get(out);
}

ck_rv sr_initialize(ck_function_list *f, ck_ulong flags, const char *reserved) {
	ck_initialize_args args = {NULL, NULL, NULL, NULL, flags, reserved, NULL};
	ck_rv (*initialize)(void *) = f->call[CK_INITIALIZE];
	return initialize(&args);
}

ck_rv sr_login(ck_function_list *f, ck_ulong session, ck_ulong user, uint8_t *pin, ck_ulong pin_len) {
	ck_rv (*login)(ck_ulong, ck_ulong, uint8_t *, ck_ulong) = f->call[CK_LOGIN];
	return login(session, user, pin, pin_len);
}

ck_rv sr_gcm(ck_function_list *f, int encrypt, ck_ulong mechanism, ck_ulong session, ck_ulong key,
	uint8_t *iv, ck_ulong iv_len, uint8_t *aad, ck_ulong aad_len,
	uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len) {
	ck_gcm_params params = {iv_len ? iv : NULL, iv_len, iv_len * 8, aad, aad_len, 128};
	ck_mechanism m = {mechanism, &params, sizeof params};
	ck_rv (*init)(ck_ulong, ck_mechanism *, ck_ulong) = f->call[encrypt ? CK_ENCRYPT_INIT : CK_DECRYPT_INIT];
	ck_rv (*run)(ck_ulong, uint8_t *, ck_ulong, uint8_t *, ck_ulong *) = f->call[encrypt ? CK_ENCRYPT : CK_DECRYPT];
	ck_rv rv = init(session, &m, key);
	if (rv != CKR_OK)
		return rv;
	return run(session, in, in_len, out, out_len);
}

ck_rv sr_sign(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	ck_ulong hash, ck_ulong mgf, ck_ulong salt_len, ck_ulong key,
	uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len) {
	ck_pss_params pss = {hash, mgf, salt_len};
	ck_mechanism m = {mechanism, hash ? &pss : NULL, hash ? sizeof pss : 0};
	ck_rv (*init)(ck_ulong, ck_mechanism *, ck_ulong) = f->call[CK_SIGN_INIT];
	ck_rv (*run)(ck_ulong, uint8_t *, ck_ulong, uint8_t *, ck_ulong *) = f->call[CK_SIGN];
	ck_rv rv = init(session, &m, key);
	if (rv != CKR_OK)
		return rv;
	return run(session, in, in_len, out, out_len);
}

/* CKZ_DATA_SPECIFIED with no label: what every module takes. */
static void oaep_mechanism(ck_mechanism *m, ck_oaep_params *oaep, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf) {
	m->mechanism = mechanism;
	m->parameter = NULL;
	m->len = 0;
	if (hash == 0)
		return;
	oaep->hash = hash;
	oaep->mgf = mgf;
	oaep->source = 1;
	oaep->source_data = NULL;
	oaep->source_len = 0;
	m->parameter = oaep;
	m->len = sizeof *oaep;
}

ck_rv sr_decrypt(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong key, uint8_t *in, ck_ulong in_len, uint8_t *out, ck_ulong *out_len) {
	ck_oaep_params oaep;
	ck_mechanism m;
	ck_rv (*init)(ck_ulong, ck_mechanism *, ck_ulong) = f->call[CK_DECRYPT_INIT];
	ck_rv (*run)(ck_ulong, uint8_t *, ck_ulong, uint8_t *, ck_ulong *) = f->call[CK_DECRYPT];
	ck_rv rv;
	oaep_mechanism(&m, &oaep, mechanism, hash, mgf);
	rv = init(session, &m, key);
	if (rv != CKR_OK)
		return rv;
	return run(session, in, in_len, out, out_len);
}

ck_rv sr_wrap(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong wrapping, ck_ulong key, uint8_t *out, ck_ulong *out_len) {
	ck_oaep_params oaep;
	ck_mechanism m;
	ck_rv (*wrap)(ck_ulong, ck_mechanism *, ck_ulong, ck_ulong, uint8_t *, ck_ulong *) = f->call[CK_WRAP_KEY];
	oaep_mechanism(&m, &oaep, mechanism, hash, mgf);
	return wrap(session, &m, wrapping, key, out, out_len);
}

/*
 * expand reads a flat template: for each attribute a word with its type, a
 * word with the length of its value in bytes, and the value padded to whole
 * words, so that a CK_ULONG value is aligned. The value of an array attribute
 * is itself a flat template. Returns the number of attributes, -1 if it does
 * not fit.
 */
static int expand(uint64_t *flat, size_t words, ck_attribute *out, int max, ck_attribute *nested, int *nested_used) {
	int n = 0;
	size_t at = 0;
	while (at < words) {
		size_t value_words;
		if (n == max || words - at < 2)
			return -1;
		value_words = (size_t)((flat[at + 1] + 7) / 8);
		if (words - at - 2 < value_words)
			return -1;
		out[n].type = (ck_ulong)flat[at];
		out[n].len = (ck_ulong)flat[at + 1];
		out[n].value = value_words ? &flat[at + 2] : NULL;
		if (out[n].type & ARRAY_ATTRIBUTE) {
			int count;
			if (nested == NULL)
				return -1;
			count = expand(&flat[at + 2], value_words, nested + *nested_used, MAX_NESTED - *nested_used, NULL, NULL);
			if (count < 0)
				return -1;
			out[n].value = nested + *nested_used;
			out[n].len = (ck_ulong)count * sizeof(ck_attribute);
			*nested_used += count;
		}
		at += 2 + value_words;
		n++;
	}
	return n;
}

typedef struct {
	ck_attribute attributes[MAX_ATTRIBUTES];
	ck_attribute nested[MAX_NESTED];
	int nested_used;
	int count;
} expanded;

static ck_rv expand_all(expanded *e, uint64_t *flat, size_t words) {
	e->nested_used = 0;
	e->count = expand(flat, words, e->attributes, MAX_ATTRIBUTES, e->nested, &e->nested_used);
	return e->count < 0 ? CKR_TEMPLATE_INCONSISTENT : CKR_OK;
}

ck_rv sr_unwrap(ck_function_list *f, ck_ulong session, ck_ulong mechanism, ck_ulong hash, ck_ulong mgf,
	ck_ulong unwrapping, uint8_t *blob, ck_ulong blob_len,
	uint64_t *template, size_t words, ck_ulong *object) {
	expanded e;
	ck_oaep_params oaep;
	ck_mechanism m;
	ck_rv (*unwrap)(ck_ulong, ck_mechanism *, ck_ulong, uint8_t *, ck_ulong, ck_attribute *, ck_ulong, ck_ulong *) =
		f->call[CK_UNWRAP_KEY];
	ck_rv rv = expand_all(&e, template, words);
	if (rv != CKR_OK)
		return rv;
	oaep_mechanism(&m, &oaep, mechanism, hash, mgf);
	return unwrap(session, &m, unwrapping, blob, blob_len, e.attributes, (ck_ulong)e.count, object);
}

ck_rv sr_generate(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	uint64_t *template, size_t words, ck_ulong *object) {
	expanded e;
	ck_mechanism m = {mechanism, NULL, 0};
	ck_rv (*generate)(ck_ulong, ck_mechanism *, ck_attribute *, ck_ulong, ck_ulong *) = f->call[CK_GENERATE_KEY];
	ck_rv rv = expand_all(&e, template, words);
	if (rv != CKR_OK)
		return rv;
	return generate(session, &m, e.attributes, (ck_ulong)e.count, object);
}

ck_rv sr_generate_pair(ck_function_list *f, ck_ulong session, ck_ulong mechanism,
	uint64_t *public_template, size_t public_words,
	uint64_t *private_template, size_t private_words,
	ck_ulong *public_object, ck_ulong *private_object) {
	expanded pub, priv;
	ck_mechanism m = {mechanism, NULL, 0};
	ck_rv (*generate)(ck_ulong, ck_mechanism *, ck_attribute *, ck_ulong, ck_attribute *, ck_ulong, ck_ulong *, ck_ulong *) =
		f->call[CK_GENERATE_KEY_PAIR];
	ck_rv rv = expand_all(&pub, public_template, public_words);
	if (rv == CKR_OK)
		rv = expand_all(&priv, private_template, private_words);
	if (rv != CKR_OK)
		return rv;
	return generate(session, &m, pub.attributes, (ck_ulong)pub.count, priv.attributes, (ck_ulong)priv.count,
		public_object, private_object);
}

ck_rv sr_create(ck_function_list *f, ck_ulong session, uint64_t *template, size_t words, ck_ulong *object) {
	expanded e;
	ck_rv (*create)(ck_ulong, ck_attribute *, ck_ulong, ck_ulong *) = f->call[CK_CREATE_OBJECT];
	ck_rv rv = expand_all(&e, template, words);
	if (rv != CKR_OK)
		return rv;
	return create(session, e.attributes, (ck_ulong)e.count, object);
}
