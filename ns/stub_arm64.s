#include "textflag.h"

// See stub.go. At entry RSP points to argc, argv..., NULL, envp..., NULL; argv[0] is the socket, argv[1] the path.
// R19 keeps the socket.

#define SYS_fcntl       25
#define SYS_ioctl       29
#define SYS_close       57
#define SYS_read        63
#define SYS_write       64
#define SYS_exit_group  94
#define SYS_kill        129
#define SYS_sigprocmask 135
#define SYS_sigwait     137
#define SYS_setsid      157
#define SYS_prctl       167
#define SYS_clone       220
#define SYS_execve      221
#define SYS_wait4       260

TEXT stub<>(SB), NOSPLIT|NOFRAME, $0
	MOVD 8(RSP), R9
	MOVBU (R9), R10
	MOVBU 1(R9), R11
	AND $0x3f, R10
	AND $0x3f, R11
	LSL $6, R11
	ORR R11, R10, R19
	// fcntl(socket, F_SETFD, FD_CLOEXEC)
	MOVD R19, R0
	MOVD $2, R1
	MOVD $1, R2
	MOVD $SYS_fcntl, R8
	SVC
	CBNZ R0, refuse
	// execve(argv[1], &argv[2], envp)
	MOVD 16(RSP), R0
	ADD $24, RSP, R1
	MOVD (RSP), R2
	LSL $3, R2
	ADD $16, R2
	MOVD RSP, R3
	ADD R3, R2
	MOVD $SYS_execve, R8
	SVC
	// write(socket, {'x', errno}, 8)
	NEG R0, R0
	LSL $32, R0
	ORR $0x78, R0
	MOVD R0, -16(RSP)
	MOVD R19, R0
	SUB $16, RSP, R1
	MOVD $8, R2
	MOVD $SYS_write, R8
	SVC
	MOVD $127, R0
	MOVD $SYS_exit_group, R8
	SVC

refuse:
	// No such descriptor: the program is the stub again, by way of /proc/self/exe. That could go on for ever.
	MOVD $126, R0
	MOVD $SYS_exit_group, R8
	SVC

TEXT stubEnd<>(SB), NOSPLIT|NOFRAME, $0
	UNDEF

// -144(RSP) siginfo_t (128 bytes), -152(RSP) signal mask, -160(RSP) wait status. R20 is the program's pid.
TEXT init<>(SB), NOSPLIT|NOFRAME, $0
	MOVD 8(RSP), R9
	MOVBU (R9), R10
	MOVBU 1(R9), R11
	AND $0x3f, R10
	AND $0x3f, R11
	LSL $6, R11
	ORR R11, R10, R19
	// fcntl(socket, F_SETFD, FD_CLOEXEC)
	MOVD R19, R0
	MOVD $2, R1
	MOVD $1, R2
	MOVD $SYS_fcntl, R8
	SVC
	CBNZ R0, refuse
	// Block all signals: they are taken one by one below.
	MOVD $-1, R0
	MOVD R0, -152(RSP)
	MOVD $0, R0
	SUB $152, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigprocmask, R8
	SVC
	MOVD $17, R0 // SIGCHLD: as fork(2)
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $SYS_clone, R8
	SVC
	CBNZ R0, parent
	// The program: an empty mask again, and on as the stub does.
	MOVD ZR, -152(RSP)
	MOVD $2, R0
	SUB $152, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigprocmask, R8
	SVC
	// execve(argv[1], &argv[2], envp)
	MOVD 16(RSP), R0
	ADD $24, RSP, R1
	MOVD (RSP), R2
	LSL $3, R2
	ADD $16, R2
	MOVD RSP, R3
	ADD R3, R2
	MOVD $SYS_execve, R8
	SVC
	// write(socket, {'x', errno}, 8)
	NEG R0, R0
	LSL $32, R0
	ORR $0x78, R0
	MOVD R0, -16(RSP)
	MOVD R19, R0
	SUB $16, RSP, R1
	MOVD $8, R2
	MOVD $SYS_write, R8
	SVC
	MOVD $127, R0
	MOVD $SYS_exit_group, R8
	SVC

parent:
	MOVD R0, R20
	MOVD R19, R0
	MOVD $SYS_close, R8
	SVC

next:
	// sigwaitinfo(all)
	MOVD $-1, R0
	MOVD R0, -152(RSP)
	SUB $152, RSP, R0
	SUB $144, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigwait, R8
	SVC
	CMP $0, R0
	BLE next
	CMP $17, R0
	BEQ reap
	// The terminal sends its signals to the program itself: pass on only those of processes, whose si_code is not
	// positive.
	MOVW -136(RSP), R1
	CMP $0, R1
	BGT next
	MOVD R0, R1
	MOVD R20, R0
	MOVD $SYS_kill, R8
	SVC
	B next

reap:
	MOVD $-1, R0
	SUB $160, RSP, R1
	MOVD $1, R2 // WNOHANG
	MOVD $0, R3
	MOVD $SYS_wait4, R8
	SVC
	CMP $0, R0
	BLE next
	CMP R20, R0
	BNE reap
	// The program has ended: with its status, or 128 and the signal.
	MOVWU -160(RSP), R1
	LSR $8, R1, R0
	AND $0xff, R0
	AND $0x7f, R1
	CBZ R1, exit
	ADD $128, R1, R0

exit:
	MOVD $SYS_exit_group, R8
	SVC

refuse:
	MOVD $126, R0
	B exit

TEXT initEnd<>(SB), NOSPLIT|NOFRAME, $0
	UNDEF

// -144(RSP) siginfo_t (128 bytes), -152(RSP) signal mask, -160(RSP) wait status. R21 holds the flags, the third letter
// of argv[0], R20 the program's pid.
TEXT join<>(SB), NOSPLIT|NOFRAME, $0
	MOVD 8(RSP), R9
	MOVBU (R9), R10
	MOVBU 1(R9), R11
	MOVBU 2(R9), R21
	AND $0x3f, R10
	AND $0x3f, R11
	LSL $6, R11
	ORR R11, R10, R19
	// fcntl(socket, F_SETFD, FD_CLOEXEC)
	MOVD R19, R0
	MOVD $2, R1
	MOVD $1, R2
	MOVD $SYS_fcntl, R8
	SVC
	CBNZ R0, refuse
	// Block all signals: they are taken one by one below.
	MOVD $-1, R0
	MOVD R0, -152(RSP)
	MOVD $0, R0
	SUB $152, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigprocmask, R8
	SVC
	// prctl(PR_SET_PDEATHSIG, SIGTERM): until here it was SIGKILL
	MOVD $1, R0
	MOVD $15, R1
	MOVD $SYS_prctl, R8
	SVC
	MOVD $17, R0 // SIGCHLD: as fork(2)
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $SYS_clone, R8
	SVC
	CBZ R0, program
	MOVD R0, R20
	// write(socket, {'p', pid or -errno}, 8)
	LSL $32, R0
	ORR $0x70, R0
	MOVD R0, -16(RSP)
	MOVD R19, R0
	SUB $16, RSP, R1
	MOVD $8, R2
	MOVD $SYS_write, R8
	SVC
	MOVD $125, R0
	CMP $0, R20
	BLE exit
	// What the program closes shall be closed.
	MOVD R19, R0
	MOVD $SYS_close, R8
	SVC
	MOVD $2, R19

streams:
	MOVD R19, R0
	MOVD $SYS_close, R8
	SVC
	SUBS $1, R19
	BGE streams

next:
	// sigwaitinfo(all)
	MOVD $-1, R0
	MOVD R0, -152(RSP)
	SUB $152, RSP, R0
	SUB $144, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigwait, R8
	SVC
	MOVD $1, R2 // WNOHANG
	CMP $17, R0 // SIGCHLD
	BEQ reap
	CMP $15, R0 // the parent has ended
	BEQ kill
	CMP $0, R0
	BGT next
	CMP $-4, R0 // EINTR
	BEQ next
	MOVD $0, R2 // a filter forbids it: then only wait

reap:
	MOVD R20, R0
	SUB $160, RSP, R1
	MOVD $0, R3
	MOVD $SYS_wait4, R8
	SVC
	CBZ R0, next
	CMP R20, R0
	MOVD $125, R0
	BNE exit
	// The program has ended: with its status, or 128 and the signal.
	MOVWU -160(RSP), R1
	LSR $8, R1, R0
	AND $0xff, R0
	AND $0x7f, R1
	CBZ R1, exit
	ADD $128, R1, R0

exit:
	MOVD $SYS_exit_group, R8
	SVC

kill:
	MOVD R20, R0
	MOVD $9, R1
	MOVD $SYS_kill, R8
	SVC
	B next

program:
	// prctl(PR_SET_PDEATHSIG, SIGKILL). A filter may forbid it, and what follows: then the program does without.
	MOVD $1, R0
	MOVD $9, R1
	MOVD $SYS_prctl, R8
	SVC
	MOVD $SYS_setsid, R8
	SVC
	AND $1, R21, R10
	CBZ R10, unblock
	// ioctl(0, TIOCSCTTY, 0)
	MOVD $0, R0
	MOVD $0x540e, R1
	MOVD $0, R2
	MOVD $SYS_ioctl, R8
	SVC

unblock:
	MOVD ZR, -152(RSP)
	MOVD $2, R0
	SUB $152, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $SYS_sigprocmask, R8
	SVC

wait:
	// read(socket, one byte): the start; or nothing, if nobody will give it
	MOVD R19, R0
	SUB $16, RSP, R1
	MOVD $1, R2
	MOVD $SYS_read, R8
	SVC
	CMP $-4, R0 // EINTR
	BEQ wait
	CMP $1, R0
	MOVD $125, R0
	BNE exit
	// execve(argv[1], &argv[2], envp)
	MOVD 16(RSP), R0
	ADD $24, RSP, R1
	MOVD (RSP), R2
	LSL $3, R2
	ADD $16, R2
	MOVD RSP, R3
	ADD R3, R2
	MOVD $SYS_execve, R8
	SVC
	// write(socket, {'x', errno}, 8)
	NEG R0, R0
	LSL $32, R0
	ORR $0x78, R0
	MOVD R0, -16(RSP)
	MOVD R19, R0
	SUB $16, RSP, R1
	MOVD $8, R2
	MOVD $SYS_write, R8
	SVC
	MOVD $127, R0
	B exit

refuse:
	MOVD $126, R0
	B exit

TEXT joinEnd<>(SB), NOSPLIT|NOFRAME, $0
	UNDEF

// func stubCode() (start, end uintptr)
TEXT ·stubCode(SB), NOSPLIT, $0-16
	MOVD $stub<>(SB), R0
	MOVD R0, start+0(FP)
	MOVD $stubEnd<>(SB), R0
	MOVD R0, end+8(FP)
	RET

// func initCode() (start, end uintptr)
TEXT ·initCode(SB), NOSPLIT, $0-16
	MOVD $init<>(SB), R0
	MOVD R0, start+0(FP)
	MOVD $initEnd<>(SB), R0
	MOVD R0, end+8(FP)
	RET

// func joinCode() (start, end uintptr)
TEXT ·joinCode(SB), NOSPLIT, $0-16
	MOVD $join<>(SB), R0
	MOVD R0, start+0(FP)
	MOVD $joinEnd<>(SB), R0
	MOVD R0, end+8(FP)
	RET
