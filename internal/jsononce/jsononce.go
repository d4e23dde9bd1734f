// Package jsononce writes JSON for a process that writes a value of a type once. encoding/json first learns a type, so as to
// be fast at the second value of it: for a container's record, which a start writes once, that takes longer than the writing.
package jsononce

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Marshal returns the text that [json.Marshal] would, byte for byte, and its errors.
func Marshal(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 4<<10), reflect.ValueOf(v))
}

// appendValue writes what it can write without having learnt anything, and leaves all else to encoding/json.
func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	if marshalsItself(v.Type()) {
		return delegate(b, v)
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Pointer, reflect.Interface:
		return appendValue(b, v.Elem())
	case reflect.Struct:
		return appendStruct(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if v.Type().Elem().Kind() != reflect.Uint8 { // bytes are base64
			return appendList(b, v)
		}
	case reflect.Array:
		return appendList(b, v)
	}
	return delegate(b, v)
}

// marshalsItself is true as well where only a pointer to the value has the method: encoding/json knows which one counts.
func marshalsItself(t reflect.Type) bool {
	if t.PkgPath() == "" || t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	return p.NumMethod() > 0 && (p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]()))
}

func delegate(b []byte, v reflect.Value) ([]byte, error) {
	if v.CanAddr() {
		v = v.Addr() // or a method of the pointer is not seen
	}
	text, err := json.Marshal(v.Interface())
	return append(b, text...), err
}

// appendString writes a string; encoding/json escapes what has to be.
func appendString(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			text, err := json.Marshal(s)
			return append(b, text...), err
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	switch {
	case v.IsNil():
		return append(b, "null"...), nil
	case v.Type().Key().Kind() != reflect.String || marshalsItself(v.Type().Key()):
		return delegate(b, v)
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendString(b, key.String()); err != nil {
			return b, err
		}
		if b, err = appendValue(append(b, ':'), v.MapIndex(key)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// appendStruct leaves a struct to encoding/json as a whole where the rules go beyond names and omitempty.
func appendStruct(b []byte, v reflect.Value) (_ []byte, err error) {
	start := len(b)
	b = append(b, '{')
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, more := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous, options != "" && options != "omitempty":
			return delegate(b[:start], v)
		case !f.IsExported(), name == "-" && !more:
			continue
		case options == "omitempty" && isEmpty(v.Field(i)):
			continue
		case name == "":
			name = f.Name
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		if b, err = appendString(b, name); err != nil {
			return b, err
		}
		if b, err = appendValue(append(b, ':'), v.Field(i)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// isEmpty is what omitempty means, see [json.Marshal].
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}
