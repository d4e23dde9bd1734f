package layers

import "testing"

func TestUsage(t *testing.T) {
	s := newStore(t)
	if u, err := s.Usage(); err != nil || u.Total() != 0 {
		t.Errorf("of nothing: %+v, %v", u, err)
	}
	base, top := newTestLayer(t, "gzip", makeTar(t, file("a", "12345"))), newTestLayer(t, "gzip", makeTar(t, file("b", "123")))
	one := add(t, s, full+"one:latest", newImage(t, base))
	two := add(t, s, full+"two:latest", newImage(t, base, top))
	if err := s.Tag("two", full+"again:latest"); err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	sharedOne, uniqueOne := u.Of(one.ID)
	sharedTwo, uniqueTwo := u.Of(two.ID)
	if sharedOne != sharedTwo || sharedOne <= 5 || uniqueOne == 0 || uniqueTwo < uniqueOne+3 {
		t.Errorf("%d + %d, %d + %d", sharedOne, uniqueOne, sharedTwo, uniqueTwo)
	}
	if total := u.Total(); total != sharedOne+uniqueOne+uniqueTwo {
		t.Errorf("total %d", total)
	}
	if n := u.Needed(func(id string) bool { return id == one.ID }); n != sharedOne+uniqueOne {
		t.Errorf("needed by one: %d", n)
	}
	if n := u.Needed(func(string) bool { return true }); n != u.Total() {
		t.Errorf("needed by any: %d", n)
	}
	if _, err := s.Remove("one", false); err != nil {
		t.Fatal(err)
	}
	if u, err = s.Usage(); err != nil || u.Total() != sharedTwo+uniqueTwo {
		t.Errorf("without the first: %d, %v", u.Total(), err)
	}
	if shared, unique := u.Of(two.ID); shared != 0 || unique != sharedTwo+uniqueTwo {
		t.Errorf("without the first: %d + %d", shared, unique)
	}
}
