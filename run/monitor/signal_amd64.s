#include "textflag.h"

// The kernel calls it on the thread's stack for signals, and gives all registers back afterwards.
TEXT handler<>(SB), NOSPLIT|NOFRAME, $0
	// write(termFD, &termOne, 8)
	MOVL ·termFD(SB), DI
	LEAQ ·termOne(SB), SI
	MOVL $8, DX
	MOVL $1, AX
	SYSCALL
	RET

TEXT restorer<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	INT $3

// func handlerCode() (handler, restorer uintptr)
TEXT ·handlerCode(SB), NOSPLIT, $0-16
	LEAQ handler<>(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ restorer<>(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
