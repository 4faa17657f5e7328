/*
 * A PKCS#11 module that forwards to another one and fails on demand, for
 * tests. Every call goes through one place that counts it, and then hangs,
 * fails or forwards, as the table in the control file says.
 *
 *   FAULTY_REAL     path of the real module
 *   FAULTY_CONTROL  file of CK_FUNCTIONS + 2 rules of six 32-bit words:
 *                   calls so far, calls to let pass, calls to fail (-1: all),
 *                   the CK_RV to fail with, hang while not 0 (those that
 *                   are not let pass), fail each call
 *                   whose number this divides (0: none).
 *                   In the last rule but one the first word is a set of quirks,
 *                   and the next are numbers of sessions (vendors.h). The words
 *                   of the last rule are: calls that failed by any rule so far,
 *                   sessions that are open, calls
 *                   while the last word was not 0, the CK_RV to fail with,
 *                   nothing, and one in how many calls, of all functions
 *                   together, fails by chance (0: none).
 *
 * A CK_RV with the highest bit is answered without it after the call was made:
 * it worked, and says that it did not.
 */
#define _GNU_SOURCE
#include "ck.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUIRK_FORGET_UNWRAP_TEMPLATE 1
#define QUIRK_NO_PAD_WRAP 2    /* no RFC 5649 under any number */
#define QUIRK_PAD_WRAP_IS_KWP 4 /* RFC 5649 is 0x210B, and 0x210A is none */
#define QUIRK_PAD_WRAP_IS_PKCS7 8 /* 0x210A adds a block of padding, as NSS does */
#define QUIRK_BAD_SIGNATURE 16 /* signatures of RSA-2048 have a wrong bit */
#define QUIRK_FORGET_PAIR_TEMPLATE 0x40000 /* pairs have no CKA_UNWRAP_TEMPLATE */
#define QUIRK_FORGET_TRUSTED 0x80000 /* CKA_WRAP_WITH_TRUSTED is taken and forgotten */
#define LATE 0x80000000U
#define PAD_WRAP 0x210AUL
#define UNWRAP_TEMPLATE 0x40000212UL
#define WRAP_WITH_TRUSTED 0x210UL
#define KWP 0x210BUL

typedef ck_ulong w;
typedef struct { volatile int32_t calls, pass, fail, rv, hang, every; } rule;

static ck_function_list *real, mine;
static rule *rules;

/* Arguments are words or smaller in the C ABI; eight is what the longest has. */
typedef ck_rv (*any)(w, w, w, w, w, w, w, w);

#include "vendors.h"

/* by_own_number finds what the module calls m by a number of its own. */
static int by_own_number(ck_mechanism *m) {
	if ((m->mechanism & OWN) != OWN)
		return 0;
	m->mechanism &= ~OWN;
	return 1;
}

static w without(w list, w count, ck_ulong type, ck_attribute *room) {
	ck_attribute *in = (ck_attribute *)list;
	w n = 0;
	for (w i = 0; i < count; i++)
		if (in[i].type != type)
			room[n++] = in[i];
	return n;
}

/* A number without a pattern for each call: the mix of MurmurHash3. */
static uint32_t chance(uint32_t x) {
	x ^= x >> 16;
	x *= 0x85EBCA6BU;
	x ^= x >> 13;
	x *= 0xC2B2AE35U;
	return x ^ x >> 16;
}

static ck_rv through(int i, w a, w b, w c, w d, w e, w f, w g, w h) {
	rule *r = &rules[i], *all = &rules[CK_FUNCTIONS + 1];
	uint32_t verdict = 0;
	ck_attribute room[32], nested[8];
	ck_mechanism other, own;
	ck_rv rv;
	play p = {rules[CK_FUNCTIONS].calls, rules[CK_FUNCTIONS].pass, rules[CK_FUNCTIONS].fail, rules[CK_FUNCTIONS].rv};
	int quirks = rules[CK_FUNCTIONS].calls, every = r->every, odds = all->every;
	int32_t number = __sync_add_and_fetch(&r->calls, 1);
	while (r->pass <= 0 && r->hang)
		usleep(1000);
	if (r->pass > 0)
		__sync_fetch_and_sub(&r->pass, 1);
	else if (r->fail != 0) {
		if (r->fail > 0)
			__sync_fetch_and_sub(&r->fail, 1);
		verdict = (uint32_t)r->rv;
	} else if (every > 0 && number % every == 0)
		verdict = (uint32_t)r->rv;
	else if (odds > 0 && chance((uint32_t)__sync_add_and_fetch(&all->fail, 1)) % (uint32_t)odds == 0)
		verdict = (uint32_t)all->rv;
	if (verdict != 0)
		__sync_fetch_and_add(&all->calls, 1);
	if (verdict != 0 && !(verdict & LATE))
		return verdict;
	if (quirks & QUIRK_OWN_NUMBERS && (i == CK_ENCRYPT_INIT || i == CK_DECRYPT_INIT || i == CK_SIGN_INIT ||
		(i >= CK_GENERATE_KEY && i <= CK_UNWRAP_KEY))) {
		own = *(ck_mechanism *)b;
		if (!by_own_number(&own))
			return 0x70;
		b = (w)&own;
	}
	if (quirks & QUIRK_CLOUDHSM_WRAPS && (i == CK_WRAP_KEY || i == CK_UNWRAP_KEY)) {
		own = *(ck_mechanism *)b;
		if (own.mechanism == 0x80002109UL)
			own.mechanism = 0x2109UL;
		else if (own.mechanism == 0x8000216FUL)
			own.mechanism = PAD_WRAP;
		else if (own.mechanism >= 0x2109UL && own.mechanism <= KWP)
			return 0x70;
		b = (w)&own;
	}
	if (i == CK_WRAP_KEY || i == CK_UNWRAP_KEY) {
		other = *(ck_mechanism *)b;
		if (other.mechanism == PAD_WRAP && quirks & (QUIRK_NO_PAD_WRAP | QUIRK_PAD_WRAP_IS_KWP))
			return 0x70;
		if (other.mechanism == KWP && quirks & QUIRK_PAD_WRAP_IS_KWP) {
			other.mechanism = PAD_WRAP;
			b = (w)&other;
		}
	}
	if (i == CK_GENERATE_KEY && quirks & QUIRK_FORGET_UNWRAP_TEMPLATE && d <= 32) {
		d = without(c, d, UNWRAP_TEMPLATE, room);
		c = (w)room;
	}
	if (i == CK_GENERATE_KEY_PAIR && quirks & QUIRK_FORGET_PAIR_TEMPLATE && f <= 32) {
		f = without(e, f, UNWRAP_TEMPLATE, room);
		e = (w)room;
	}
	if (i == CK_GENERATE_KEY_PAIR && quirks & QUIRK_FORGET_TRUSTED && f <= 32) {
		f = without(e, f, WRAP_WITH_TRUSTED, room);
		e = (w)room;
		for (w n = 0; n < f; n++)
			if (room[n].type == UNWRAP_TEMPLATE && room[n].len <= sizeof nested) {
				room[n].len = sizeof *nested * without((w)room[n].value, room[n].len / sizeof *nested, WRAP_WITH_TRUSTED, nested);
				room[n].value = nested;
			}
	}
	if (i == CK_UNWRAP_KEY && quirks & QUIRK_FORGET_TRUSTED && f <= 32) {
		f = without(e, f, WRAP_WITH_TRUSTED, room);
		e = (w)room;
	}
	rv = played(&p, i, a, b, c, d, e, f, g, h);
	if (i == CK_WRAP_KEY && quirks & QUIRK_PAD_WRAP_IS_PKCS7 && other.mechanism == PAD_WRAP && rv == 0)
		*(ck_ulong *)f += 8;
	if (i == CK_SIGN && quirks & QUIRK_BAD_SIGNATURE && rv == 0 && *(ck_ulong *)e == 256)
		((uint8_t *)d)[200] ^= 1;
	if (rv == 0 && i == OPEN_SESSION)
		__sync_fetch_and_add(&all->pass, 1);
	if (rv == 0 && i == CLOSE_SESSION)
		__sync_fetch_and_sub(&all->pass, 1);
	return verdict ? verdict & ~LATE : rv;
}

#define T(i) static ck_rv t##i(w a, w b, w c, w d, w e, w f, w g, w h) { return through(i, a, b, c, d, e, f, g, h); }
#define T10(i) T(i##0) T(i##1) T(i##2) T(i##3) T(i##4) T(i##5) T(i##6) T(i##7) T(i##8) T(i##9)
T(0) T(1) T(2) T(4) T(5) T(6) T(7) T(8) T(9)
T10(1) T10(2) T10(3) T10(4) T10(5)
T(60) T(61) T(62) T(63) T(64) T(65) T(66) T(67)
#define S(i) mine.call[i] = (void *)t##i;
#define S10(i) S(i##0) S(i##1) S(i##2) S(i##3) S(i##4) S(i##5) S(i##6) S(i##7) S(i##8) S(i##9)

ck_rv C_GetFunctionList(ck_function_list **out) {
	if (real == NULL) {
		ck_rv (*get)(ck_function_list **);
		void *library = dlopen(getenv("FAULTY_REAL"), RTLD_NOW | RTLD_LOCAL);
		int fd = open(getenv("FAULTY_CONTROL"), O_RDWR);
		if (library == NULL || fd < 0)
			return 5;
		rules = mmap(NULL, sizeof(rule) * (CK_FUNCTIONS + 2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		*(void **)&get = dlsym(library, "C_GetFunctionList");
		if (rules == MAP_FAILED || get(&real) != 0)
			return 5;
		mine = *real;
		S(0) S(1) S(2) S(4) S(5) S(6) S(7) S(8) S(9)
		S10(1) S10(2) S10(3) S10(4) S10(5)
		S(60) S(61) S(62) S(63) S(64) S(65) S(66) S(67)
		mine.call[3] = (void *)C_GetFunctionList;
	}
	*out = &mine;
	return 0;
}
