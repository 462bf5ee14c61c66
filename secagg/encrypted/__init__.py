"""Sums under encryption: CKKS, and masked BFV, with one chunk per ciphertext and a key nobody here sends.

A client encrypts under the public key of a key custodian, a server adds ciphertexts, the custodian decrypts
sums. Three limits hold for both schemes and cannot be mended in this package. Ciphertexts are not proved
well-formed: one malformed ciphertext, from a client or the server, makes the decrypted sum tell the secret
key. They are malleable. And the custodian can decrypt one client's ciphertext as well as a sum: only masks
modulo t (`residues`), which BFV carries and CKKS cannot, keep a single input hidden from it.

Keys and encryption draw their randomness inside the library, from the operating system: the one place where
this project does not take it as an argument. Masks and flooding noise come from seeds that are arguments.

`library` alone imports tenseal, and only when it is used. Messages, signatures and files are not made here.
"""
