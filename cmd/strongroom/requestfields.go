package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/api/wire"
)

// set applies the flags of one field.
func (r *requestField) set(req reflect.Value, in *inputs) error {
	name := kebab(r.name)
	if r.text.given() && r.file.given() {
		return usagef("--%s and --%s-file exclude each other", name, name)
	}
	if r.text.given() {
		if err := r.setText(req, r.text.texts); err != nil {
			return usagef("--%s: %s", name, plainFault(err))
		}
	}
	if !r.file.given() {
		return nil
	}
	return r.setFile(req, in, r.file.texts[0])
}

// setFile reads a field from a file.
func (r *requestField) setFile(req reflect.Value, in *inputs, file string) error {
	name := kebab(r.name) + "-file"
	if r.typ == reflect.TypeFor[*wire.Text]() {
		text, err := in.credential(name, file)
		if err != nil {
			return err
		}
		req.FieldByIndex(r.index).Set(reflect.ValueOf(wire.NewText(text)))
		return nil
	}
	if r.typ == reflect.TypeFor[*wire.Value]() {
		value, err := in.value(name, file)
		if err != nil {
			return err
		}
		req.FieldByIndex(r.index).Set(reflect.ValueOf(&wire.Value{Bytes: value}))
		return nil
	}
	raw, err := in.read(name, file, maxJSON)
	if err != nil {
		return err
	}
	if r.typ == reflect.TypeFor[*wire.Object]() {
		object := jsontext.Value(raw)
		if !object.IsValid() || object.Kind() != '{' {
			clear(raw)
			return usagef("--%s: must hold one JSON object, the body of the request that is to be approved", name)
		}
		req.FieldByIndex(r.index).Set(reflect.ValueOf(wire.NewObject(raw)))
		return nil
	}
	if err := r.setText(req, []string{strings.TrimSpace(string(raw))}); err != nil {
		return usagef("--%s: %s", name, plainFault(err))
	}
	return nil
}

// setText parses texts into the field. Texts never hold plaintext.
func (r *requestField) setText(req reflect.Value, texts []string) error {
	v := req.FieldByIndex(r.index)
	last := texts[len(texts)-1]
	switch r.text.kind {
	case "base64":
		raw, err := base64.StdEncoding.Strict().DecodeString(last)
		if err != nil {
			return fmt.Errorf("must be standard base64 with padding")
		}
		v.Set(reflect.ValueOf(wire.Bytes(raw)))
	case "time":
		t, err := parseTime(last, time.Now())
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(t))
	case "duration":
		d, err := wire.ParseDuration(last)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(&d))
	case "list":
		var list []string
		for _, text := range texts {
			for item := range strings.SplitSeq(text, ",") {
				if item = strings.TrimSpace(item); item != "" {
					list = append(list, item)
				}
			}
		}
		v.Set(reflect.ValueOf(list))
	case "name=value":
		pairs := map[string]string{}
		for _, text := range texts {
			name, value, _ := strings.Cut(text, "=")
			pairs[name] = value
		}
		v.Set(reflect.ValueOf(pairs))
	case "json":
		return r.setJSON(req, last)
	default:
		return setScalar(v, last)
	}
	return nil
}

// setJSON decodes a nested field as strictly as the server does.
func (r *requestField) setJSON(req reflect.Value, text string) error {
	if !jsontext.Value(text).IsValid() {
		return fmt.Errorf("is not well-formed JSON")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{%q:%s}`, r.name, text)
	return wire.Decode(b.Bytes(), req.Addr().Interface())
}

func setScalar(v reflect.Value, text string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false")
		}
		v.SetBool(b)
	default:
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return fmt.Errorf("must be a whole number from 0 up")
		}
		if v.CanInt() {
			v.SetInt(int64(n))
		} else {
			v.SetUint(n)
		}
	}
	return nil
}
