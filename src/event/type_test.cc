#include "event/type.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

Type MustParse(std::string_view text) {
  Result<Type> type = ParseType(text);
  EXPECT_TRUE(type) << text << ": " << (type ? "" : type.error().message());
  return type ? *type : Type();
}

std::string ErrorOf(std::string_view text) {
  Result<Type> type = ParseType(text);
  return type ? "no error" : type.error().message();
}

TEST(TypeTest, NormalFormReadsBackToAnEqualType) {
  for (std::string_view text :
       {"boolean", "tinyint", "hugeint", "double", "decimal(12,2)", "varchar", "timestamptz", "uuid", "json",
        "varchar[]", "enum('a','it''s')", "struct(sku varchar, qty integer)[]",
        "struct(\"a b\" struct(x decimal(38,0)[]), y date)[][]"}) {
    Type type = MustParse(text);
    EXPECT_EQ(type.ToString(), text);
    EXPECT_EQ(MustParse(type.ToString()), type);
  }
}

TEST(TypeTest, AliasesAndCase) {
  EXPECT_EQ(MustParse("INT").ToString(), "integer");
  EXPECT_EQ(MustParse("text[]").ToString(), "varchar[]");
  EXPECT_EQ(MustParse("Decimal").ToString(), "decimal(18,3)");
  EXPECT_EQ(MustParse("decimal(5)").ToString(), "decimal(5,0)");
  EXPECT_EQ(MustParse("numeric( 10 , 2 )").ToString(), "decimal(10,2)");
  EXPECT_EQ(MustParse("timestamp with time zone").ToString(), "timestamptz");
  EXPECT_EQ(MustParse(" struct( a int , b  text ) [] ").ToString(), "struct(a integer, b varchar)[]");
}

TEST(TypeTest, SqlNames) {
  EXPECT_EQ(MustParse("struct(sku text, qty int)[]").ToSql(), "STRUCT(sku VARCHAR, qty INTEGER)[]");
  EXPECT_EQ(MustParse("struct(\"order\" int)").ToSql(), "STRUCT(\"order\" INTEGER)");
  EXPECT_EQ(MustParse("enum('a','it''s')").ToSql(), "ENUM('a', 'it''s')");
  EXPECT_EQ(MustParse("timestamptz").ToSql(), "TIMESTAMP WITH TIME ZONE");
}

TEST(TypeTest, ErrorsNameTheNearestType) {
  EXPECT_EQ(ErrorOf("decmal(12,2)"), "unknown type 'decmal(12,2)'; did you mean 'decimal(12,2)'?");
  EXPECT_EQ(ErrorOf("list(integer)"), "unknown type 'list(integer)'; did you mean 'integer[]'?");
  EXPECT_EQ(ErrorOf("Array( struct(a date) )"),
            "unknown type 'Array( struct(a date) )'; did you mean 'struct(a date)[]'?");
  EXPECT_EQ(ErrorOf("varchr"), "unknown type 'varchr'; did you mean 'varchar'?");
  EXPECT_NE(ErrorOf("quux").find("known are boolean"), std::string::npos);
  EXPECT_EQ(ErrorOf("decimal(39,2)"), "a decimal has 1 to 38 digits, not 39");
  EXPECT_EQ(ErrorOf("decimal(4,5)"), "decimal(4,5): the scale is larger than the width");
  EXPECT_EQ(ErrorOf("varchar(10)"), "'varchar' takes no '(10)'");
  EXPECT_EQ(ErrorOf("enum('a','a')"), "the enum names 'a' twice");
  EXPECT_NE(ErrorOf("struct(a"), "no error");
  EXPECT_NE(ErrorOf("enum('a"), "no error");
  EXPECT_NE(ErrorOf(""), "no error");
  EXPECT_NE(ErrorOf("int["), "no error");
  EXPECT_NE(ErrorOf("int x"), "no error");
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "struct(a ";
  EXPECT_NE(ErrorOf(deep).find("nested more than"), std::string::npos);
}

TEST(TypeTest, FixedBytesAreDuckDbs) {
  EXPECT_EQ(MustParse("decimal(4,1)").FixedBytes(), 2u);
  EXPECT_EQ(MustParse("decimal(9,1)").FixedBytes(), 4u);
  EXPECT_EQ(MustParse("decimal(18,1)").FixedBytes(), 8u);
  EXPECT_EQ(MustParse("decimal(19,1)").FixedBytes(), 16u);
  EXPECT_EQ(MustParse("uuid").FixedBytes(), 16u);
  EXPECT_EQ(MustParse("enum('a')").FixedBytes(), 1u);
  EXPECT_EQ(MustParse("varchar").FixedBytes(), 0u);
}

TEST(FieldTest, ReadsAllClauses) {
  Result<Field> field =
      ParseField("amount", "decimal(12,2) not null default 12.50 check (amount >= 0 and (note <> ')'))");
  ASSERT_TRUE(field) << field.error().message();
  EXPECT_EQ(field->type.ToString(), "decimal(12,2)");
  EXPECT_TRUE(field->not_null);
  EXPECT_EQ(field->default_literal, "12.50");
  EXPECT_EQ(field->check, "amount >= 0 and (note <> ')')");
  EXPECT_EQ(field->pointer, "/amount");
  EXPECT_EQ(ParseField("a/b~c", "int")->pointer, "/a~1b~0c");
  EXPECT_EQ(ParseField("s", "enum('open','it''s') default 'it''s'")->default_literal, "it's");
}

TEST(FieldTest, RefusesWhatItDoesNotUnderstand) {
  EXPECT_EQ(ParseField("a", "int default 'x'").error().message(), "the default 'x' is not integer");
  EXPECT_FALSE(ParseField("a", "int nott null"));
  EXPECT_FALSE(ParseField("a", "int default"));
  EXPECT_FALSE(ParseField("a", "int check (a > 0"));
  EXPECT_FALSE(ParseField("a", "int check"));
  EXPECT_FALSE(ParseField("a", "int[] default 1"));
}

TEST(FieldTest, FingerprintsTellFieldsApart) {
  Field a = *ParseField("a", "int"), b = *ParseField("b", "int"), c = *ParseField("a", "bigint");
  Field d = *ParseField("a", "int default 1"), e = *ParseField("a", "int not null check (a > 1)");
  EXPECT_NE(a.Fingerprint(), b.Fingerprint());
  EXPECT_NE(a.Fingerprint(), c.Fingerprint());
  EXPECT_NE(a.Fingerprint(), d.Fingerprint());
  EXPECT_EQ(a.Fingerprint(), e.Fingerprint());  // neither changes what the bytes mean
}

}  // namespace
}  // namespace millstream
