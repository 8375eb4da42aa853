#include "src/lib/base/secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(SecretsTest, ValuesOfSecretKeysAreMaskedHoweverTheyAreWritten) {
  const std::vector<std::string> texts{
      "password=hunter2",
      "PASSWORD=hunter2",
      "username=bob,password=hunter2,vers=3",
      "bad option password2=hunter2",
      "passphrase: hunter2",
      R"({"token": "hunter2"})",
      R"(said "{\"token\": \"hunter2\"}")",
      "secret='hunter2'",
      "aws_secret_access_key = hunter2",
      "RCLONE_CONFIG_X_PASS=hunter2 rclone",
      "sh -c mount --password hunter2 /mnt",
      "--api-key \"hunter2\"",
      "my password is hunter2",
      "key=hunter2",
      "X-Api-Key: hunter2",
      "?sig=hunter2&x=1",
      "pass%77ord=hunter2",
      "password%3Dhunter2",
      "password%253Dhunter2",
      "https://h/?token=hunter2",
      "psk=hunter2",
      "pw=hunter2",
      "credentials=hunter2",
      "X-Api-Key: hunter",
      "> Authorization: Token hunter2",
      "Authorization: Digest username=bob, response=hunter2",
      "Cookie: a=b; session=hunter2",
      "ssh_command=sshpass\\ -p\\ hunter2\\ ssh",
      "ssh_command=\"sshpass -phunter2 ssh\"",
  };
  for (const std::string& text : texts) {
    EXPECT_THAT(mask_secrets(text), Not(HasSubstr("hunter"))) << text;
    EXPECT_THAT(mask_secrets(text), HasSubstr("***")) << text;
  }
}

TEST(SecretsTest, PasswordsOfUsersInSourcesAreMasked) {
  EXPECT_EQ(mask_secrets("https://user:hunter2@host/path"), "https://user:***@host/path");
  EXPECT_EQ(mask_secrets("HTTPS://user:p@ss:w@host/path"), "HTTPS://user:***@host/path");
  EXPECT_EQ(mask_secrets("https://user:a/b?c@host/path"), "https://user:***@host/path");
  EXPECT_EQ(mask_secrets("https://user:hun%40ter@host/path"), "https://user:***@host/path");
  EXPECT_EQ(mask_secrets("bob:hunter2@host:/srv"), "bob:***@host:/srv");
  EXPECT_EQ(mask_secrets("//bob:hunter2@host/share"), "//bob:***@host/share");
  EXPECT_EQ(mask_secrets("mount of \"bob:hunter2@host:/srv\" failed"), "mount of \"bob:***@host:/srv\" failed");
  EXPECT_EQ(mask_secrets("user=bob%hunter2,vers=3"), "user=bob%***,vers=3");
  EXPECT_THAT(mask_secrets("url=https%3A%2F%2Fuser%3Ahunter2%40host"), Not(HasSubstr("hunter2")));
  EXPECT_THAT(mask_secrets("https://ghp_0123456789abcdefghij@host/x"), Not(HasSubstr("0123456789abcdefghij")));
}

TEST(SecretsTest, SecretsThatAreKnownByTheirFormAreMasked) {
  EXPECT_THAT(mask_secrets("Authorization: Basic dXNlcjpodW50ZXIy"), Not(HasSubstr("dXNlcjpodW50ZXIy")));
  EXPECT_THAT(mask_secrets("sent Bearer abc123def"), Not(HasSubstr("abc123def")));
  EXPECT_THAT(mask_secrets("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\nbnNz\n-----END OPENSSH PRIVATE KEY-----\nx"),
              Not(HasSubstr("b3Bl")));
  EXPECT_THAT(mask_secrets("got eyJhbGciOiJIUzI1NiJ9.e30.abc"), Not(HasSubstr("eyJhbGciOi")));
}

TEST(SecretsTest, WhatIsNoSecretStays) {
  for (const char* text :
       {"nfs1:/media", "nfs1:/media@snap", "bob@host:/srv", "[fe80::1%eth0]:/srv@x", "http://host:8080/x@y",
        "sftp://bob@host/x", "Permission denied (publickey,password).", "Host key verification failed.",
        "Load key: No such file or directory", "vers=4.2,ro,credentials=/etc/berth/media.cred",
        "passwd_file=/etc/passwd-s3fs", "mount error(13): Permission denied", "PreferredAuthentications=publickey",
        "--password-file /etc/berth/secret", "lowerdir=/a:/b,upperdir=/c@d", "keyboard=us", "passno=0",
        "exit status 32"}) {
    EXPECT_EQ(mask_secrets(text), text);
  }
}

TEST(SecretsTest, ASecretMayBeTheArgumentAfterItsKey) {
  using Argv = std::vector<std::string>;
  EXPECT_THAT(mask_secrets(Argv{"m", "--password", "hunter2", "x"}), ElementsAre("m", "--password", "***", "x"));
  EXPECT_THAT(mask_secrets(Argv{"m", "--PassWord=hunt,er2"}), ElementsAre("m", "--PassWord=***"));
  EXPECT_THAT(mask_secrets(Argv{"m", "-o", "user=b,password=my word,x"}),
              ElementsAre("m", "-o", "user=b,password=***,x"));
  EXPECT_THAT(mask_secrets(Argv{"m", "-opass=hunter2,ro"}), ElementsAre("m", "-opass=***,ro"));
  EXPECT_THAT(mask_secrets(Argv{"m", "-o", "password=a,,b,ro"}), ElementsAre("m", "-o", "password=***,ro"));
  EXPECT_THAT(mask_secrets(Argv{"m", "-o", "password=\"a,b\",ro"}), ElementsAre("m", "-o", testing::EndsWith(",ro")));
  EXPECT_THAT(mask_secrets(Argv{"sshpass", "-phunter2", "sshfs"}), ElementsAre("sshpass", "-p***", "sshfs"));
  EXPECT_THAT(mask_secrets(Argv{"sshpass", "-p", "hunter2"}), ElementsAre("sshpass", "-p", "***"));
  EXPECT_THAT(mask_secrets(Argv{"ssh", "-p", "2222"}), ElementsAre("ssh", "-p", "2222"));
  EXPECT_THAT(mask_secrets(Argv{"curl", "-u", "bob:hunter2"}), ElementsAre("curl", "-u", "bob:***"));
  EXPECT_THAT(mask_secrets(Argv{"curl", "-ubob:hunter2"}), ElementsAre("curl", "-ubob:***"));
  EXPECT_THAT(mask_secrets(Argv{"x", "-H", "X-Token: a b"}), ElementsAre("x", "-H", "X-Token:***"));
  EXPECT_THAT(mask_secrets(Argv{"x", "-HX-Token: a b"}), ElementsAre("x", "-HX-Token:***"));
  EXPECT_THAT(mask_secrets(Argv{"x", "--header=X-Api-Key: a b"}), ElementsAre("x", "--header=X-Api-Key:***"));
  EXPECT_THAT(mask_secrets(Argv{"rclone", "config", "pass", "hunter2"}),
              ElementsAre("rclone", "config", "pass", "***"));
  EXPECT_THAT(mask_secrets(Argv{"x", "--password-file", "/etc/x"}), ElementsAre("x", "--password-file", "/etc/x"));
}

TEST(SecretsTest, AKnownSecretIsMaskedInAnyWords) {
  Secrets secrets;
  secrets.add_options("username=bob,password=Hun\\,ter 2,vers=3");
  secrets.add_source("https://user:s%40cret99@host/");
  secrets.add_command({"x", "--token", "tok123"});
  secrets.add_variable("LOGIN", "varia-ble");
  for (const char* text : {"cannot log in with Hun,ter 2", "HUN,TER 2", "hun%2Cter%202", "Hun\\,ter 2 was refused"}) {
    EXPECT_THAT(secrets.mask(text), HasSubstr("***")) << text;
    EXPECT_THAT(secrets.mask(text), Not(HasSubstr("er 2"))) << text;
  }
  EXPECT_EQ(secrets.mask("is s@cret99 or s%40cret99"), "is *** or ***");
  EXPECT_EQ(secrets.mask("tok123 (tok123)"), "*** (***)");
  EXPECT_EQ(secrets.mask("a varia-ble"), "a ***");
  EXPECT_EQ(secrets.mask("bob is here"), "bob is here");
}

TEST(SecretsTest, AKnownSecretIsMaskedInEachFormThatProgramsPrint) {
  Secrets secrets;
  secrets.add_variable("LOGIN", "Qx\"hun'ter 2\\&y");
  for (const char* text : {"Qx\"hun'ter 2\\&y", R"(said "Qx\"hun'ter 2\\&y")", R"("said \"Qx\\\"hun'ter 2\\\\&y\"")",
                           R"('Qx"hun'\''ter 2\&y')", "Qx%22hun%27ter%202%5C%26y", "Qx%22hun%27ter+2%5C%26y",
                           "header UXgiaHVuJ3RlciAyXCZ5 "}) {
    const std::string masked = secrets.mask(text);
    EXPECT_THAT(masked, HasSubstr("***")) << text;
    for (const char* part : {"hun", "ter", "UXgi"}) EXPECT_THAT(masked, Not(HasSubstr(part))) << text;
  }
  secrets.add_variable("SEVERAL", "line-one\nline-two\n");
  EXPECT_EQ(secrets.mask("cannot read line-two"), "cannot read ***");
  secrets.add_command({"x", "-H", "Authorization: Token hunter22", "--header=Cookie: id=hunter33; x=hunter44"});
  EXPECT_EQ(secrets.mask("hunter22, hunter33 and hunter44 are refused"), "***, *** and *** are refused");
}

TEST(SecretsTest, CommonWordsAndShortSecretsMaskNoOrdinaryText) {
  Secrets secrets;
  secrets.add_options("key=true,password=abc");
  EXPECT_EQ(secrets.mask("true alphababcd abc"), "true alphababcd ***");
}

TEST(SecretsTest, TheContentOfACredentialsFileIsSecret) {
  EXPECT_THAT(secret_files_in("ro,credentials=/etc/a.cred,secretfile=/etc/b"), ElementsAre("/etc/a.cred", "/etc/b"));
  EXPECT_THAT(secret_files_in(std::vector<std::string>{"x", "--password-file", "/etc/c", "-o", "passwd_file=/etc/d"}),
              ElementsAre("/etc/c", "/etc/d"));
  Secrets secrets;
  secrets.add_file("# comment\nusername=bobby\npassword = hunter2\n");
  secrets.add_file("AKIDENTITY:sEcReT99\n");
  EXPECT_EQ(secrets.mask("Credential formatted incorrectly: hunter2 of bobby"),
            "Credential formatted incorrectly: *** of bobby");
  EXPECT_EQ(secrets.mask("is sEcReT99"), "is ***");
  secrets.add_file("machine host login bobby password netrc-hunter account x\nhttps://host/x  bobby  davfs-hunter\n");
  EXPECT_EQ(secrets.mask("bobby is netrc-hunter or davfs-hunter"), "bobby is *** or ***");
  secrets.add_file(
      "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\njson-line1\\njson-line2\\n-----END PRIVATE KEY-----\\n\"}");
  EXPECT_EQ(secrets.mask("bad json-line2"), "bad ***");
}

}  // namespace
}  // namespace berth
