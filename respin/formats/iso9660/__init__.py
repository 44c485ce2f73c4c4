"""ISO 9660 images: reading them, and splicing replaced and new files into one.

``image`` reads (over ``descriptors``, ``tree``, ``records``, ``susp``, ``names``, ``eltorito`` and ``systemarea``);
``plan`` splices (over ``support``, ``layout``, ``blockmap``, ``rootdir`` and the ``relocate`` modules).
"""
