#include "textflag.h"

// func cloneToSend(flags, stack uintptr, m *mail) (pid, errno uintptr)
//
// The child begins on another stack, so what it needs waits in a register, which the kernel keeps.
TEXT ·cloneToSend(SB), NOSPLIT, $0-40
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD m+16(FP), R9
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // clone
	SVC
	CBZ R0, child
	CMN $4095, R0
	BCC born
	NEG R0, R0
	MOVD ZR, pid+24(FP)
	MOVD R0, errno+32(FP)
	RET

born:
	MOVD R0, pid+24(FP)
	MOVD ZR, errno+32(FP)
	RET

child:
	SUB $32, RSP
	MOVD R9, 8(RSP)
	BL ·sendAndEnd(SB)
	BRK
