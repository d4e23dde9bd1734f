#include "textflag.h"

// The kernel calls it on the thread's stack for signals, and gives all registers back afterwards.
TEXT handler<>(SB), NOSPLIT|NOFRAME, $0
	// write(termFD, &termOne, 8)
	MOVW ·termFD(SB), R0
	MOVD $·termOne(SB), R1
	MOVD $8, R2
	MOVD $64, R8
	SVC
	RET

TEXT restorer<>(SB), NOSPLIT|NOFRAME, $0
	MOVD $139, R8 // rt_sigreturn
	SVC
	BRK

// func handlerCode() (handler, restorer uintptr)
TEXT ·handlerCode(SB), NOSPLIT, $0-16
	MOVD $handler<>(SB), R0
	MOVD R0, handler+0(FP)
	MOVD $restorer<>(SB), R0
	MOVD R0, restorer+8(FP)
	RET
