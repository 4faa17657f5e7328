/*
 * What vendors do differently, played before a real module: who makes the IV
 * of AES-GCM, numbers of their own, log-in in each session, few sessions.
 * Written after what the vendors publish; no hardware stood model.
 */
#include <pthread.h>
#include <sys/random.h>

#define QUIRK_IV_WRITEBACK 0x20  /* CloudHSM: pIv must be zeros and is overwritten */
#define QUIRK_IV_APPENDED 0x40   /* ProtectServer, Luna: the IV comes after the tag */
#define QUIRK_IV_PREPENDED 0x80  /* CKM_CLOUDHSM_AES_GCM: pIv NULL, the IV comes first */
#define QUIRK_IV_SHORT 0x100     /* appended: IVs of 12 bytes, not 16 */
#define QUIRK_IV_NULL 0x200      /* appended: pIv must be NULL */
#define QUIRK_IV_CONSTANT 0x400  /* every IV that the module makes is the same */
#define QUIRK_IV_ZERO 0x800      /* every IV that the module makes is zeros */
#define QUIRK_FORGET_AAD 0x1000
#define QUIRK_OPENS_ANYTHING 0x2000
#define QUIRK_OWN_NUMBERS 0x4000 /* a mechanism is called OWN | its number, and not by its number */
#define QUIRK_LOGIN_PER_SESSION 0x8000
#define QUIRK_IV_MASKED 0x10000 /* GCM under another IV than the one given, both ways */
#define QUIRK_CLOUDHSM_WRAPS 0x20000 /* key wrap under CloudHSM's numbers only */
#define OWN 0xA0000000UL
#define AES_GCM 0x1087UL
#define AES_GCM_PREPENDED 0x80001087UL

/* Places in CK_FUNCTION_LIST that ck.h has no name for. */
enum { GET_TOKEN_INFO = 6, OPEN_SESSION = 12, CLOSE_SESSION = 13, FIRST_WITH_LOGIN = 20, LAST_WITH_LOGIN = 62 };

/* The words of the last rule after the quirks: sessions that may be open, and
 * what C_GetTokenInfo says of them. 0: as the real module has it. */
typedef struct { int quirks, open_max, told_max, told_max_rw; } play;

typedef struct {
	w session;
	int taken, logged_in, gcm, pending;
	uint8_t iv[16];
	w iv_len, key;
	ck_gcm_params params;
} seat;

static seat seats[512];
static pthread_mutex_t seating = PTHREAD_MUTEX_INITIALIZER;

static seat *seat_of(w session, int taken) {
	seat *found = NULL;
	pthread_mutex_lock(&seating);
	for (int i = 0; i < 512 && found == NULL; i++)
		if (seats[i].taken == taken && (!taken || seats[i].session == session))
			found = &seats[i];
	if (found != NULL && !taken) {
		memset(found, 0, sizeof *found);
		found->taken = 1;
		found->session = session;
	}
	pthread_mutex_unlock(&seating);
	return found;
}

static int seats_taken(void) {
	int n = 0;
	pthread_mutex_lock(&seating);
	for (int i = 0; i < 512; i++)
		n += seats[i].taken;
	pthread_mutex_unlock(&seating);
	return n;
}

static void make_iv(const play *p, seat *s, w len) {
	s->iv_len = len;
	if (p->quirks & QUIRK_IV_ZERO)
		memset(s->iv, 0, sizeof s->iv);
	else if (p->quirks & QUIRK_IV_CONSTANT)
		memset(s->iv, 0x5A, sizeof s->iv);
	else if (getrandom(s->iv, sizeof s->iv, 0) != sizeof s->iv)
		abort();
}

static int zeros(const uint8_t *p, w n) {
	while (n > 0)
		if (p[--n] != 0)
			return 0;
	return 1;
}

static void mask_iv(const play *p, seat *s, ck_gcm_params *params) {
	if (!(p->quirks & QUIRK_IV_MASKED) || params->iv_len > sizeof s->iv)
		return;
	memcpy(s->iv, params->iv, params->iv_len);
	s->iv[0] ^= 0x80;
	params->iv = s->iv;
}

#define REAL(i, a, b, c, d, e) ((any)real->call[i])(a, b, c, d, e, 0, 0, 0)

static ck_rv gcm_encrypt_init(const play *p, seat *s, w session, ck_mechanism *m, w key) {
	ck_gcm_params *theirs = m->parameter, ours = *theirs;
	ck_mechanism mine_now = {AES_GCM, &ours, sizeof ours};
	if (p->quirks & QUIRK_FORGET_AAD)
		ours.aad = NULL, ours.aad_len = 0;
	if (!(p->quirks & (QUIRK_IV_WRITEBACK | QUIRK_IV_APPENDED | QUIRK_IV_PREPENDED))) {
		mine_now.mechanism = m->mechanism;
		mask_iv(p, s, &ours);
		return REAL(CK_ENCRYPT_INIT, session, (w)&mine_now, key, 0, 0);
	}
	if ((m->mechanism == AES_GCM_PREPENDED) != !!(p->quirks & QUIRK_IV_PREPENDED))
		return 0x70;
	if (p->quirks & QUIRK_IV_WRITEBACK) {
		if (theirs->iv == NULL || theirs->iv_len != 12 || !zeros(theirs->iv, 12))
			return 0x71;
		make_iv(p, s, 12);
		memcpy(theirs->iv, s->iv, 12);
	} else if (p->quirks & QUIRK_IV_PREPENDED) {
		if (theirs->iv != NULL || theirs->iv_len != 0)
			return 0x71;
		make_iv(p, s, 12);
	} else {
		w len = p->quirks & QUIRK_IV_SHORT ? 12 : 16;
		if (!!(p->quirks & QUIRK_IV_NULL) != (theirs->iv == NULL))
			return 0x71;
		if (theirs->iv != NULL && p->quirks & QUIRK_IV_SHORT && theirs->iv_len != 12)
			return 0x71;
		make_iv(p, s, len);
	}
	ours.iv = s->iv;
	ours.iv_len = s->iv_len;
	ours.iv_bits = 8 * s->iv_len;
	return REAL(CK_ENCRYPT_INIT, session, (w)&mine_now, key, 0, 0);
}

static ck_rv gcm_encrypt(const play *p, seat *s, w session, w in, w in_len, w out, w out_len) {
	ck_ulong *len = (ck_ulong *)out_len;
	uint8_t *box = (uint8_t *)out;
	int first = p->quirks & QUIRK_IV_PREPENDED;
	ck_rv rv;
	if (!(p->quirks & (QUIRK_IV_APPENDED | QUIRK_IV_PREPENDED)))
		return REAL(CK_ENCRYPT, session, in, in_len, out, out_len);
	if (*len < in_len + 16 + s->iv_len)
		return 0x150;
	*len -= s->iv_len;
	rv = REAL(CK_ENCRYPT, session, in, in_len, (w)(first ? box + s->iv_len : box), out_len);
	if (rv != 0)
		return rv;
	memcpy(first ? box : box + *len, s->iv, s->iv_len);
	*len += s->iv_len;
	return 0;
}

static ck_rv gcm_decrypt_init(const play *p, seat *s, w session, ck_mechanism *m, w key) {
	ck_mechanism mine_now = *m;
	s->params = *(ck_gcm_params *)m->parameter;
	mine_now.parameter = &s->params;
	s->key = key;
	if (p->quirks & QUIRK_FORGET_AAD)
		s->params.aad = NULL, s->params.aad_len = 0;
	mask_iv(p, s, &s->params);
	if (!(p->quirks & QUIRK_IV_PREPENDED))
		return REAL(CK_DECRYPT_INIT, session, (w)&mine_now, key, 0, 0);
	if (m->mechanism != AES_GCM_PREPENDED)
		return 0x70;
	if (s->params.iv != NULL)
		return 0x71;
	s->pending = 1; /* the IV comes with the ciphertext */
	return 0;
}

static ck_rv gcm_decrypt(const play *p, seat *s, w session, w in, w in_len, w out, w out_len) {
	ck_mechanism m = {AES_GCM, &s->params, sizeof s->params};
	ck_rv rv;
	w room = *(ck_ulong *)out_len;
	if (s->pending) {
		s->pending = 0;
		if (in_len < 12)
			return 0x41;
		s->params.iv = (uint8_t *)in;
		s->params.iv_len = 12;
		s->params.iv_bits = 96;
		in += 12;
		in_len -= 12;
		rv = REAL(CK_DECRYPT_INIT, session, (w)&m, s->key, 0, 0);
		if (rv != 0)
			return rv;
	}
	rv = REAL(CK_DECRYPT, session, in, in_len, out, out_len);
	if (rv == 0 || !(p->quirks & QUIRK_OPENS_ANYTHING) || in_len < 16 || room < in_len - 16)
		return rv;
	*(ck_ulong *)out_len = in_len - 16;
	return 0;
}

/* open_session and close_session count. */
static ck_rv open_session(const play *p, w slot, w flags, w app, w notify, w handle) {
	ck_rv rv;
	if (p->open_max > 0 && seats_taken() >= p->open_max)
		return 0xB1;
	rv = REAL(OPEN_SESSION, slot, flags, app, notify, handle);
	if (rv == 0)
		(void)seat_of(*(ck_ulong *)handle, 0);
	return rv;
}

static ck_rv log_in(const play *p, seat *s, w session, w user, w pin, w pin_len) {
	ck_rv rv = REAL(CK_LOGIN, session, user, pin, pin_len, 0);
	if (!(p->quirks & QUIRK_LOGIN_PER_SESSION) || s == NULL || s->logged_in)
		return rv;
	if (rv == 0 || rv == 0x100) { /* ALREADY_LOGGED_IN: this session was not */
		s->logged_in = 1;
		return 0;
	}
	return rv;
}

static void tell(const play *p, w info) {
	ck_ulong *counts = (ck_ulong *)((uint8_t *)info + 96 + sizeof(ck_ulong)); /* CK_TOKEN_INFO: label, maker, model, serial, flags */
	if (p->told_max != 0)
		counts[0] = p->told_max == -1 ? ~0UL : p->told_max == -2 ? ~1UL : (ck_ulong)p->told_max;
	if (p->told_max_rw != 0)
		counts[2] = (ck_ulong)p->told_max_rw;
}

/* played makes one call as the vendor would. */
static ck_rv played(const play *p, int i, w a, w b, w c, w d, w e, w f, w g, w h) {
	seat *s = i >= CLOSE_SESSION ? seat_of(a, 1) : NULL;
	ck_mechanism *m = (ck_mechanism *)b;
	ck_rv rv;
	if (i == OPEN_SESSION)
		return open_session(p, a, b, c, d, e);
	if (i == CK_LOGIN)
		return log_in(p, s, a, b, c, d);
	if (i >= FIRST_WITH_LOGIN && i <= LAST_WITH_LOGIN && p->quirks & QUIRK_LOGIN_PER_SESSION && (s == NULL || !s->logged_in))
		return 0x101;
	if (s != NULL && (i == CK_ENCRYPT_INIT || i == CK_DECRYPT_INIT)) {
		s->gcm = m->mechanism == AES_GCM || m->mechanism == AES_GCM_PREPENDED;
		if (s->gcm)
			return i == CK_ENCRYPT_INIT ? gcm_encrypt_init(p, s, a, m, c) : gcm_decrypt_init(p, s, a, m, c);
	}
	if (s != NULL && s->gcm && i == CK_ENCRYPT)
		return gcm_encrypt(p, s, a, b, c, d, e);
	if (s != NULL && s->gcm && i == CK_DECRYPT)
		return gcm_decrypt(p, s, a, b, c, d, e);
	rv = ((any)real->call[i])(a, b, c, d, e, f, g, h);
	if (i == CLOSE_SESSION && s != NULL)
		s->taken = 0;
	if (i == GET_TOKEN_INFO && rv == 0)
		tell(p, b);
	return rv;
}
