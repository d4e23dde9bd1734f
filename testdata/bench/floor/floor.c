// The floor under every start of a container: a static C program that makes the same namespaces, overlay, mounts and
// masks as a Docker container has, runs one command in them, waits and cleans up. No store, no state, no cgroup, no
// seccomp, no names: what a runtime needs beyond this is its own.
//
//	floor [-u|-m NAME] LOWER[:LOWER...] SCRATCH COMMAND [ARG...]
//
// An ordinary user needs a user namespace: -u adds one that maps the caller to root and nobody else, -m one that maps the
// range too that /etc/subuid and /etc/subgid give the caller, whose name it is. Only newuidmap and newgidmap may do that; they
// run at once. SCRATCH is an empty folder of the caller's, on the file system that holds the upper layer.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int user;   // in a user namespace of our own
static const char *name; // -m
static int word[2]; // a pipe: the ids are there

static void die(const char *what, const char *operand)
{
	fprintf(stderr, "floor: %s %s: %s\n", what, operand, strerror(errno));
	_exit(125);
}

static void must(int result, const char *what, const char *operand)
{
	if (result < 0)
		die(what, operand);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("write", path);
	close(fd);
}

static void mnt(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	must(mount(source, target, type, flags, data), "mount", target);
}

// Starts newuidmap or newgidmap for a process, with the caller's own id and the range that a file gives him.
static pid_t mapper(const char *program, pid_t pid, unsigned id, const char *file)
{
	static char line[256], first[16], size[16], target[16], own[16];
	size_t n = strlen(name);
	FILE *f = fopen(file, "re");
	pid_t child;
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, n) && line[n] == ':' && sscanf(line + n, ":%15[0-9]:%15[0-9]", first, size) == 2)
			break;
	if (!f || !*size)
		die("find the caller in", file);
	fclose(f);
	snprintf(target, sizeof target, "%d", pid);
	snprintf(own, sizeof own, "%u", id);
	child = vfork();
	must(child, "vfork for", program);
	if (child == 0) {
		execlp(program, program, target, "0", own, "1", "1", first, size, NULL);
		_exit(127);
	}
	return child;
}

static void collect(pid_t pid, const char *what)
{
	int status;
	must(waitpid(pid, &status, 0), "wait for", what);
	if (status != 0) {
		errno = EPERM;
		die("map ids with", what);
	}
}

static void map_ids(pid_t pid, unsigned uid, unsigned gid)
{
	pid_t u = mapper("newuidmap", pid, uid, "/etc/subuid"), g = mapper("newgidmap", pid, gid, "/etc/subgid");
	collect(u, "newuidmap");
	collect(g, "newgidmap");
	must(write(word[1], "m", 1), "write", "the word");
}

static void be_root_inside(unsigned uid, unsigned gid)
{
	char map[32];
	if (name) {
		if (read(word[0], map, 1) != 1)
			die("wait for", "the ids");
		must(setresgid(0, 0, 0), "setresgid", "0");
		must(setresuid(0, 0, 0), "setresuid", "0");
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		return;
	}
	put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1\n", uid);
	put("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1\n", gid);
	put("/proc/self/gid_map", map);
	must(setresgid(0, 0, 0), "setresgid", "0");
	must(setresuid(0, 0, 0), "setresuid", "0");
}

static void root(const char *lower)
{
	static char options[4096 + 64];
	mnt(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=u,workdir=w,volatile%s", lower, user ? ",userxattr" : "");
	mnt("overlay", "m", "overlay", 0, options);
	must(chdir("m"), "chdir", "m");
}

static void devices(void)
{
	static const struct { const char *name; unsigned major, minor; } node[] = {
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	};
	static const char *link[][2] = {
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}, {"/proc/kcore", "dev/core"},
	};
	char inside[32], outside[32];
	for (unsigned i = 0; i < sizeof node / sizeof *node; i++) {
		snprintf(inside, sizeof inside, "dev/%s", node[i].name);
		if (!user) {
			must(mknod(inside, S_IFCHR | 0666, makedev(node[i].major, node[i].minor)), "mknod", inside);
			continue;
		}
		snprintf(outside, sizeof outside, "/dev/%s", node[i].name);
		close(open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
		mnt(outside, inside, NULL, MS_BIND, NULL);
	}
	for (unsigned i = 0; i < sizeof link / sizeof *link; i++)
		must(symlink(link[i][0], link[i][1]), "symlink", link[i][1]);
}

static void folder(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		die("mkdir", path);
}

static void mounts(void)
{
	static const char *file[] = {"hostname", "hosts", "resolv.conf"};
	char source[32], target[32];
	folder("proc"), folder("sys"), folder("dev"), folder("etc");
	mnt("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mnt("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	folder("dev/pts"), folder("dev/shm"), folder("dev/mqueue");
	mnt("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, user ? "newinstance,ptmxmode=0666,mode=0620" :
	    "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mnt("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
	mnt("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mnt("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
	devices();
	for (unsigned i = 0; i < sizeof file / sizeof *file; i++) {
		snprintf(source, sizeof source, "../%s", file[i]);
		snprintf(target, sizeof target, "etc/%s", file[i]);
		close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
		mnt(source, target, NULL, MS_BIND, NULL);
	}
}

static void pivot(void)
{
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root", ".");
	must(umount2(".", MNT_DETACH), "umount", "the old root");
	must(chdir("/"), "chdir", "/");
}

// Docker's masked and read-only paths; one that this kernel lacks is left out.
static void masks(void)
{
	static const char *mask[] = {"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
		"/sys/firmware", "/sys/devices/virtual/powercap"};
	static const char *fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	struct stat st;
	for (unsigned i = 0; i < sizeof mask / sizeof *mask; i++) {
		if (stat(mask[i], &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			mnt("tmpfs", mask[i], "tmpfs", MS_RDONLY, "size=0k");
		else
			mnt("/dev/null", mask[i], NULL, MS_BIND, NULL);
	}
	for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++) {
		if (mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL) < 0)
			continue;
		mnt(NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	}
}

static void loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(fd, "socket", "for lo");
	must(ioctl(fd, SIOCSIFFLAGS, &request), "bring up", "lo");
	close(fd);
}

// Docker's default capabilities stay (mask 0xa80425fb), all others are dropped for good.
static void rights(void)
{
	const unsigned long long keep = 0xa80425fb;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{keep, keep, 0}, {0, 0, 0}};
	for (int c = 0; c <= 63; c++)
		if (!(keep >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno == EINVAL)
			break; // past the last one this kernel has
	must(syscall(SYS_capset, &header, data), "capset", "");
}

static void child(const char *lower, unsigned uid, unsigned gid, char **command)
{
	if (user)
		be_root_inside(uid, gid);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	root(lower);
	mounts();
	pivot();
	masks();
	must(sethostname("floor", 5), "sethostname", "floor");
	loopback();
	rights();
	execve(command[0], command, (char *[]){"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", NULL});
	die("execute", command[0]);
}

static void prepare(const char *scratch)
{
	must(chdir(scratch), "chdir", scratch);
	must(mkdir("u", 0755), "mkdir", "u");
	must(mkdir("w", 0755), "mkdir", "w");
	must(mkdir("m", 0755), "mkdir", "m");
	put("hostname", "floor\n");
	put("hosts", "127.0.0.1\tlocalhost\n");
	put("resolv.conf", "");
}

static void clean(void)
{
	// overlay makes these without any rights, which stops an ordinary user
	static const char *closed[] = {"w/work", "w/work/incompat", "w/work/incompat/volatile"};
	static const char *made[] = {"u/etc/hostname", "u/etc/hosts", "u/etc/resolv.conf", "u/etc", "u/proc", "u/sys", "u/dev", "u",
		// volatile: overlay's mark that this upper must not be used again
		"w/work/incompat/volatile/dirty", "w/work/incompat/volatile", "w/work/incompat", "w/work", "w",
		"m", "hostname", "hosts", "resolv.conf"};
	for (unsigned i = 0; i < sizeof closed / sizeof *closed; i++)
		chmod(closed[i], 0700);
	for (unsigned i = 0; i < sizeof made / sizeof *made; i++)
		remove(made[i]);
}

int main(int argc, char **argv)
{
	int status, flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | SIGCHLD;
	unsigned uid = getuid(), gid = getgid();
	pid_t pid;
	if (argc > 1 && strcmp(argv[1], "-u") == 0)
		user = CLONE_NEWUSER, argv++, argc--;
	if (argc > 2 && strcmp(argv[1], "-m") == 0)
		user = CLONE_NEWUSER, name = argv[2], argv += 2, argc -= 2;
	if (argc < 4) {
		fprintf(stderr, "usage: floor [-u|-m NAME] LOWER[:LOWER...] SCRATCH COMMAND [ARG...]\n");
		return 125;
	}
	umask(0);
	prepare(argv[2]);
	if (name)
		must(pipe2(word, O_CLOEXEC), "pipe", "");
	pid = syscall(SYS_clone, flags | user, 0, 0, 0, 0);
	must(pid, "clone", "");
	if (pid == 0)
		child(argv[1], uid, gid, argv + 3);
	if (name)
		map_ids(pid, uid, gid);
	must(waitpid(pid, &status, 0), "wait", "");
	clean();
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
