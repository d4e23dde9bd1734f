package run

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decode is json.Unmarshal for what hull itself has written. That builds tables of all types within the type that it meets
// first, how to read and how to write them, which for a container's state takes 0.4 ms: a process that reads one state has
// no use for them. What this does not know, it leaves to json.Unmarshal.
func decode(data []byte, to any) error {
	target := reflect.ValueOf(to).Elem()
	fresh := reflect.New(target.Type()).Elem()
	fresh.Set(target)
	d := decoder{b: data}
	if d.value(fresh) && d.peek() == 0 {
		target.Set(fresh)
		return nil
	}
	return json.Unmarshal(data, to)
}

// decoder reads values one after the other. Each of its functions says whether all was as expected.
type decoder struct {
	b []byte
	i int
}

// peek is the next byte that is no blank, 0 at the end.
func (d *decoder) peek() byte {
	for ; d.i < len(d.b); d.i++ {
		switch c := d.b[d.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (d *decoder) next(c byte) bool {
	if d.peek() != c || c == 0 {
		return false
	}
	d.i++
	return true
}

func (d *decoder) value(v reflect.Value) bool {
	kind := v.Kind()
	if d.peek() == 'n' {
		return kind != reflect.Interface && d.word("null") && d.null(v)
	}
	if kind != reflect.Pointer && v.Type().PkgPath() != "" && v.Addr().Type().NumMethod() > 0 {
		if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
			text, ok := d.raw()
			return ok && u.UnmarshalJSON(text) == nil
		}
		if _, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); ok {
			return false
		}
	}
	switch kind {
	case reflect.Struct:
		return d.structure(v)
	case reflect.Map:
		return d.mapping(v)
	case reflect.Slice:
		return d.list(v)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem())
	case reflect.String:
		s, ok := d.text()
		v.SetString(s)
		return ok
	case reflect.Bool:
		v.SetBool(d.peek() == 't')
		return d.word("true") || d.word("false")
	}
	return d.number(v)
}

func (d *decoder) null(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		v.SetZero()
	}
	return true
}

func (d *decoder) word(w string) bool {
	d.peek()
	if !bytes.HasPrefix(d.b[d.i:], []byte(w)) {
		return false
	}
	d.i += len(w)
	return true
}

// structure reads the fields in the order of their type, in which they have been written; some may be left out.
func (d *decoder) structure(v reflect.Value) bool {
	t, at := v.Type(), 0
	return d.each('{', '}', func() bool {
		key, ok := d.text()
		if !ok || !d.next(':') {
			return false
		}
		for at < t.NumField() {
			f := t.Field(at)
			at++
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || strings.Contains(options, "string") {
				return false
			}
			if name == "" {
				name = f.Name
			}
			if name == key && f.IsExported() {
				return d.value(v.Field(at - 1))
			}
		}
		return false
	})
}

// each reads what stands between two brackets, with commas between.
func (d *decoder) each(open, end byte, one func() bool) bool {
	if !d.next(open) {
		return false
	}
	if d.next(end) {
		return true
	}
	for {
		if !one() {
			return false
		}
		if d.next(end) {
			return true
		}
		if !d.next(',') {
			return false
		}
	}
}

func (d *decoder) mapping(v reflect.Value) bool {
	t := v.Type()
	if t.Key() != reflect.TypeFor[string]() {
		return false
	}
	v.Set(reflect.MakeMap(t))
	return d.each('{', '}', func() bool {
		key, ok := d.text()
		item := reflect.New(t.Elem()).Elem()
		if !ok || !d.next(':') || !d.value(item) {
			return false
		}
		v.SetMapIndex(reflect.ValueOf(key), item)
		return true
	})
}

func (d *decoder) list(v reflect.Value) bool {
	t := v.Type()
	if t.Elem().Kind() == reflect.Uint8 {
		return false
	}
	v.Set(reflect.MakeSlice(t, 0, 0))
	return d.each('[', ']', func() bool {
		v.Grow(1)
		v.SetLen(v.Len() + 1)
		item := v.Index(v.Len() - 1)
		item.SetZero()
		return d.value(item)
	})
}

// text reads a string. One with escapes is left to package json.
func (d *decoder) text() (string, bool) {
	raw, ok := d.quoted()
	if !ok {
		return "", false
	}
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

func (d *decoder) quoted() ([]byte, bool) {
	if !d.next('"') {
		return nil, false
	}
	begin := d.i - 1
	for ; d.i < len(d.b); d.i++ {
		switch c := d.b[d.i]; {
		case c == '\\':
			d.i++
		case c == '"':
			d.i++
			return d.b[begin:d.i], true
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

func (d *decoder) number(v reflect.Value) bool {
	d.peek()
	begin := d.i
	for d.i < len(d.b) && (d.b[d.i] == '-' || d.b[d.i] >= '0' && d.b[d.i] <= '9') {
		d.i++
	}
	if d.i < len(d.b) && strings.IndexByte(",]} \n", d.b[d.i]) < 0 {
		return false
	}
	s := string(d.b[begin:d.i])
	switch digits := strings.TrimPrefix(s, "-"); {
	case len(digits) > 1 && digits[0] == '0':
		return false
	case v.CanInt():
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		v.SetInt(n)
		return err == nil
	case v.CanUint():
		n, err := strconv.ParseUint(s, 10, v.Type().Bits())
		v.SetUint(n)
		return err == nil
	}
	return false
}

// raw is the text of a whole string, which is all that the types with a way of their own are written as.
func (d *decoder) raw() ([]byte, bool) {
	d.peek()
	return d.quoted()
}
