/* SPDX-License-Identifier: MIT */
#include "master/privdrop.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#include "common/address.h"
#include "common/alloc.h"
#include "common/log.h"

/* Beyond this, tables sized by the limit cost more than they are worth. */
enum { DESCRIPTORS_MAX = 1 << 20 };

static int
find_group(struct privileges *p, const char *name, struct buf *why)
{
	const struct group *group = getgrnam(name);

	if (group == NULL) {
		buf_printf(why, "there is no group \"%s\"", name);
		return -EINVAL;
	}
	p->gid = group->gr_gid;
	return 0;
}

int
privileges_look_up(
    struct privileges *p, const struct config *config, struct buf *why)
{
	const struct passwd *user;

	*p = (struct privileges){
		.root = geteuid() == 0, .uid = geteuid(), .gid = getegid()
	};
	if (*config->user == '\0') {
		if (p->root)
			p->warning = "running as root: set \"user\"";
		return 0;
	}
	user = getpwnam(config->user);
	if (!p->root) {
		if (user == NULL || user->pw_uid != p->uid)
			p->warning = "\"user\" is ignored: only root can "
				     "become another user";
		return 0;
	}
	if (user == NULL) {
		buf_printf(why, "there is no user \"%s\"", config->user);
		return -EINVAL;
	}
	p->drop = true;
	p->uid = user->pw_uid;
	p->gid = user->pw_gid;
	p->user = xstrdup(config->user);
	if (*config->group != '\0')
		return find_group(p, config->group, why);
	return 0;
}

void
privileges_fini(struct privileges *p)
{
	free(p->user);
	p->user = NULL;
}

struct directory {
	const char *path;
	mode_t mode;
	bool keep_private; /* others are shut out even if it was there */
};

/*
 * Whoever ran as root until now has left files that the user cannot open.
 * Only what bears a name of ours is given away, and nothing that has a second
 * name, which may be anybody's. The descriptor, or -1.
 */
static int
hand_over(const struct privileges *p, int dir, const char *name)
{
	int fd =
	    openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == 0 &&
	    (S_ISDIR(st.st_mode) ||
		(S_ISREG(st.st_mode) && st.st_nlink == 1)) &&
	    fchown(fd, p->uid, p->gid) < 0)
		log_warn("cannot give \"%s\" to user \"%s\": %s", name, p->user,
		    strerror(errno));
	return fd;
}

static void
hand_over_contents(const struct privileges *p, int dir)
{
	static const char *const top[] = { "lock", "runtime.lock", "board",
		"state", "bindings", "ledger", "usage.spool" };
	static const char *const inner[] = { "data.mdb", "lock.mdb", "boot" };
	size_t i, k;
	int fd, file;

	for (i = 0; i < ARRAY_LEN(top); i++) {
		fd = hand_over(p, dir, top[i]);
		for (k = 0; k < ARRAY_LEN(inner) && fd >= 0; k++) {
			file = hand_over(p, fd, inner[k]);
			if (file >= 0)
				(void)close(file);
		}
		if (fd >= 0)
			(void)close(fd);
	}
}

static int
prepare_directory(const struct privileges *p, const struct directory *d)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;

	if (mkdir(d->path, d->mode) < 0 && errno != EEXIST)
		return -errno;
	fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (p->drop && st.st_uid != p->uid && fchown(fd, p->uid, p->gid) < 0)
		return -errno;
	if (p->drop && p->uid != 0)
		hand_over_contents(p, fd);
	if (d->keep_private && (st.st_mode & 077) != 0 &&
	    (p->root || st.st_uid == p->uid) && fchmod(fd, d->mode) < 0)
		return -errno;
	return 0;
}

int
privileges_make_dirs(
    const struct privileges *p, const struct config *config, struct buf *why)
{
	const struct directory dirs[] = {
		{ config->state_dir, 0700, true },
		{ config->runtime_dir, 0755, false },
	};
	mode_t mask = umask(022);
	size_t i;
	int rc = 0;

	for (i = 0; i < ARRAY_LEN(dirs) && rc == 0; i++) {
		rc = prepare_directory(p, &dirs[i]);
		if (rc < 0)
			buf_printf(why, "cannot use directory %s: %s",
			    dirs[i].path, strerror(-rc));
	}
	(void)umask(mask);
	return rc;
}

static void
raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	    limit.rlim_cur >= DESCRIPTORS_MAX)
		return;
	limit.rlim_cur =
	    limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

void
privileges_harden(void)
{
	const struct rlimit none = { 0, 0 };

	(void)umask(077);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	raise_descriptors();
}

/* Everything is given up but, if keep_bind, the one capability. */
static int
limit_capabilities(bool keep_bind)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (keep_bind) {
		data[0].effective = 1u << CAP_NET_BIND_SERVICE;
		data[0].permitted = 1u << CAP_NET_BIND_SERVICE;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* What a process may pass on over an exec must be inheritable. */
static void
set_inheritable(bool on)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].inheritable =
	    on ? data[0].permitted & (1u << CAP_NET_BIND_SERVICE) : 0;
	data[1].inheritable = 0;
	(void)syscall(SYS_capset, &header, data);
}

void
privileges_keep_over_exec(void)
{
	/* Root has everything after an exec, and needs no help. */
	if (geteuid() == 0)
		return;
	set_inheritable(true);
	(void)prctl(
	    PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0);
}

void
privileges_end_keeping(void)
{
	if (geteuid() == 0)
		return;
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	set_inheritable(false);
}

static int
change_ids(const struct privileges *p, bool keep_bind)
{
	if (prctl(PR_SET_KEEPCAPS, keep_bind, 0, 0, 0) < 0 ||
	    initgroups(p->user, p->gid) < 0 ||
	    setresgid(p->gid, p->gid, p->gid) < 0 ||
	    setresuid(p->uid, p->uid, p->uid) < 0)
		return -errno;
	if (setuid(0) == 0)
		return -EPERM;
	return limit_capabilities(keep_bind);
}

int
privileges_drop(const struct privileges *p, bool keep_bind, struct buf *why)
{
	int rc;

	if (!p->drop)
		return 0;
	rc = p->uid != 0 ? change_ids(p, keep_bind) : 0;
	if (rc < 0)
		buf_printf(why, "cannot become user \"%s\": %s", p->user,
		    strerror(-rc));
	/* The kernel resets it when the ids change. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return rc;
}

static bool
is_low_port(const char *text)
{
	struct address a;
	in_port_t port;

	if (address_parse(text, &a) < 0 || a.is_unix)
		return false;
	port = a.sa.ss_family == AF_INET
		   ? ((struct sockaddr_in *)&a.sa)->sin_port
		   : ((struct sockaddr_in6 *)&a.sa)->sin6_port;
	return ntohs(port) != 0 && ntohs(port) < IPPORT_RESERVED;
}

bool
privileges_needs_bind(const struct config *config)
{
	size_t i;

	for (i = 0; i < config->listen.n; i++) {
		if (is_low_port(config->listen.v[i]))
			return true;
	}
	return *config->admin_listen != '\0' &&
	       is_low_port(config->admin_listen);
}
