package run

import (
	"testing"
	"time"
)

func TestParseTimeout(t *testing.T) {
	for _, test := range []struct {
		text         string
		limit, grace time.Duration
	}{
		{"90", 90 * time.Second, 0}, {"90s", 90 * time.Second, 0}, {"2m", 2 * time.Minute, 0}, {"1h30m", 90 * time.Minute, 0},
		{"10m,30s", 10 * time.Minute, 30 * time.Second}, {"10,5", 10 * time.Second, 5 * time.Second}, {"1.5s,0", 1500 * time.Millisecond, 0},
		{"0", -1, 0}, {"0s", -1, 0}, {"4294967295", 4294967295 * time.Second, 0},
	} {
		limit, grace, err := ParseTimeout(test.text)
		if limit != test.limit || grace != test.grace || err != nil {
			t.Errorf("%q: %s, %s, %v", test.text, limit, grace, err)
		}
	}
	for _, text := range []string{"", "soon", "-1", "-1s", "5,", ",5", "1,2,3", "0,5", "10m,-1s", "9999999999", "5 ", "300000h0"} {
		if limit, grace, err := ParseTimeout(text); err == nil {
			t.Errorf("%q: %s, %s", text, limit, grace)
		}
	}
	for d, ms := range map[time.Duration]int{-1: 0, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Minute: 60_000} {
		if got := milliseconds(d); got != ms {
			t.Errorf("%s: %d ms", d, got)
		}
	}
}
